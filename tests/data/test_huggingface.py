"""Sets of Hugging Face `datasets` on disk: the same data set as from arrays, without a network."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cnn.data import Dataset, lazy, load
from cnn.errors import InputError

datasets = pytest.importorskip("datasets")
datasets.disable_progress_bars()

PIXELS = np.random.default_rng(0).integers(0, 256, (20, 6, 5, 3), np.uint8)
PIXELS[:, 0, 0] = np.arange(20)[:, None]
LABELS = np.arange(20) % 2


def table(rows: range = range(20), **columns: Any) -> Any:
    """A table of images, labels and other columns."""
    features = {"image": datasets.Image(), "label": datasets.ClassLabel(names=["cat", "dog"])}
    content = {
        "image": [Image.fromarray(PIXELS[row]) for row in rows],
        "label": LABELS[rows].tolist(),
    }
    made = datasets.Dataset.from_dict(content, features=datasets.Features(features))
    for name, column in columns.items():
        made = made.add_column(name, column)
    return made


def test_images_and_labels(tmp_path: Path) -> None:
    table(id=list(range(20))).save_to_disk(tmp_path / "pets")
    data = load(f"hf:{tmp_path / 'pets'}")
    same = Dataset.from_arrays(PIXELS, LABELS, name="pets", classes=["cat", "dog"])
    assert (data.name, data.classes) == ("pets", ("cat", "dog"))
    assert data.content_hash() == same.content_hash()
    assert load(f"hf:{tmp_path / 'pets'}", size=(3, 4), channels=1).input_shape == (3, 4, 1)


def test_splits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parts = {"train": table(range(10)), "validation": table(range(10, 14))}
    datasets.DatasetDict(parts).save_to_disk(tmp_path / "two")
    datasets.DatasetDict({**parts, "test": table(range(14, 20))}).save_to_disk(tmp_path / "three")
    two, three = load(f"hf:{tmp_path / 'two'}"), load(f"hf:{tmp_path / 'three'}")
    assert [(len(d.train), len(d.test)) for d in (two, three)] == [(10, 4), (14, 6)]
    np.testing.assert_array_equal(three.train.y, LABELS[:14])
    first = three.test.x[:, 0, 0, 0] * three.std[0] + three.mean[0]
    np.testing.assert_allclose(first, range(14, 20), atol=1e-4)
    monkeypatch.setattr(lazy, "BUDGET", 100)
    large = load(f"hf:{tmp_path / 'three'}", channels=3)
    assert isinstance(large.train.x, lazy.LazyArray)
    np.testing.assert_array_equal(large.test.x[np.arange(6)], three.test.x)


def test_arrays_and_float_targets(tmp_path: Path) -> None:
    x, y = np.random.default_rng(1).standard_normal((2, 10, 7, 2)).astype(np.float32)
    features = {
        "signal": datasets.Array2D((7, 2), "float32"),
        "value": datasets.List(datasets.Value("float32"), length=2),
        "id": datasets.Value("int64"),
    }
    content = {"signal": list(x), "value": list(y[:, 0]), "id": list(range(10))}
    made = datasets.Dataset.from_dict(content, features=datasets.Features(features))
    made.save_to_disk(tmp_path / "signals")
    data = load(f"hf:{tmp_path / 'signals'}")
    assert data.content_hash() == Dataset.from_arrays(x, y[:, 0], name="signals").content_hash()
    with pytest.raises(InputError, match="size and channels are for images, got arrays"):
        load(f"hf:{tmp_path / 'signals'}", size=(2, 2))


def test_arrays_that_do_not_say_where_their_channels_are_are_named(tmp_path: Path) -> None:
    features = {"x": datasets.Array2D((7, 9), "float32"), "y": datasets.Value("float32")}
    content = {"x": [np.zeros((7, 9), np.float32)] * 10, "y": [0.5] * 10}
    made = datasets.Dataset.from_dict(content, features=datasets.Features(features))
    assert "signals': x (10, 7, 9) does not say where" in refused(made, tmp_path / "signals")


def refused(table: Any, folder: Path) -> str:
    table.save_to_disk(folder)
    with pytest.raises(InputError) as caught:
        load(f"hf:{folder}")
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_what_is_not_clear_is_refused(tmp_path: Path) -> None:
    whole = table()
    no_label = whole.remove_columns("label")
    assert "type ClassLabel or float, got 0" in refused(no_label, tmp_path / "a")
    no_image = whole.remove_columns("image")
    assert "one column of type Image or array, got 0" in refused(no_image, tmp_path / "b")
    numbers = whole.cast_column("label", datasets.Value("int64"))
    assert "got 0 in ['image', 'label']" in refused(numbers, tmp_path / "c")
    gaps = datasets.concatenate_datasets([whole, no_label])
    assert "must have a value in every row" in refused(gaps, tmp_path / "d")
    unlabelled = whole.map(lambda row: {"label": -1})
    assert "got -1 in row 0" in refused(unlabelled, tmp_path / "e")
    odd = datasets.DatasetDict({"test": whole, "extra": whole})
    assert "needs a split 'train'" in refused(odd, tmp_path / "f")
    mixed = datasets.DatasetDict({"train": whole, "test": numbers})
    assert "must have the same columns" in refused(mixed, tmp_path / "g")


@pytest.mark.fault
def test_damaged_folders_are_one_line(tmp_path: Path) -> None:
    folder = tmp_path / "pets"
    table().save_to_disk(folder)
    for file in ("data-00000-of-00001.arrow", "state.json", "dataset_info.json"):
        whole = (folder / file).read_bytes()
        (folder / file).write_bytes(whole[: len(whole) // 2])
        with pytest.raises(InputError) as caught:
            load(f"hf:{folder}")
        assert "\n" not in str(caught.value)
        (folder / file).write_bytes(whole)
    info = json.loads((folder / "dataset_info.json").read_text())
    info["features"]["image"]["_type"] = "os.system"
    (folder / "dataset_info.json").write_text(json.dumps(info))
    with pytest.raises(InputError):
        load(f"hf:{folder}")


def test_without_the_package_the_remedy_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"EXTRA=huggingface, or pip install 'cnn-biases\[hugg"):
        load(f"hf:{tmp_path}")


def test_loading_needs_no_network(tmp_path: Path) -> None:
    table().save_to_disk(tmp_path / "pets")
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from cnn.data import load
assert "datasets" not in sys.modules
assert load("hf:" + sys.argv[1]).input_shape == (6, 5, 3)
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "pets")],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
