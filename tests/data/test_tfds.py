"""Sets that TFDS prepared: found by name, read without TensorFlow, refused with one line."""

from __future__ import annotations

import io
import json
import pwd
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_datasets
from PIL import Image

from cnn import data
from cnn.data import files, lazy
from cnn.data.dataset import Dataset
from cnn.data.registry import data_root
from cnn.data.split import Split
from cnn.errors import InputError
from tests.conftest import Prepared
from tests.reliability import Tally


def write_set(
    folder: Path,
    splits: dict[str, list[dict[str, Any]]],
    features: dict[str, Any] | None = None,
    supervised: tuple[str, ...] = ("image", "label"),
    shards: int = 1,
    file_format: str = "array_record",
) -> None:
    """Write a set as TFDS does, without TensorFlow: data_dir/name/version is the folder."""
    import tensorflow_datasets as tfds
    from array_record.python.array_record_module import ArrayRecordWriter

    image_and_label = {
        "image": tfds.features.Image(shape=(None, None, 3)),
        "label": tfds.features.ClassLabel(names=["cat", "dog"]),
    }
    description = tfds.features.FeaturesDict(features or image_and_label)
    folder.mkdir(parents=True)
    description.save_config(str(folder))
    name = folder.parent.name
    infos = []
    for split, examples in splits.items():
        lengths = []
        for shard in range(shards):
            part = examples[shard::shards]
            lengths.append(str(len(part)))
            file = folder / f"{name}-{split}.{file_format}-{shard:05d}-of-{shards:05d}"
            writer = ArrayRecordWriter(str(file), "group_size:1")
            for example in part:
                writer.write(description.serialize_example(example))
            writer.close()
        template = "{DATASET}-{SPLIT}.{FILEFORMAT}-{SHARD_X_OF_Y}"
        infos.append({"name": split, "shardLengths": lengths, "filepathTemplate": template})
    info = {
        "name": name,
        "version": folder.name,
        "fileFormat": file_format,
        "moduleName": "somebody.elses.code",
        "splits": infos,
    }
    if supervised:
        info["supervisedKeys"] = {"tuple": {"items": [{"featureKey": key} for key in supervised]}}
    (folder / "dataset_info.json").write_text(json.dumps(info))


def png(value: int, size: tuple[int, int] = (4, 5)) -> bytes:
    from PIL import Image

    pixels = np.full((*size, 3), value, np.uint8)
    pixels[0, 0] = (10, 20, 30)
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG")
    return file.getvalue()


def examples(*values: int) -> list[dict[str, Any]]:
    return [{"image": png(value), "label": value % 2} for value in values]


def greys(split: Split, dataset: Dataset) -> list[int]:
    """The grey level of each image of `examples`, in stored order."""
    return [round(float(x) * dataset.std[0] + dataset.mean[0]) for x in split.x[:, 1, 1, 0]]


def test_a_set_somebody_else_built_is_found_by_name(tmp_path: Path) -> None:
    write_set(
        tmp_path / "pets" / "1.0.0",
        {"train": examples(1, 2, 3, 4, 5), "test": examples(6, 7)},
        shards=2,
    )
    pets = data.load("pets", tmp_path)
    assert pets.input_shape == (4, 5, 3)
    assert pets.classes == ("cat", "dog")
    assert greys(pets.train, pets) == [1, 3, 5, 2, 4]  # the first shard, then the second
    assert pets.train.y.tolist() == [1, 1, 1, 0, 0]
    assert greys(pets.test, pets) == [6, 7]
    corner = pets.test.x[0, 0, 0] * np.array(pets.std) + np.array(pets.mean)
    np.testing.assert_allclose(corner, [10, 20, 30], atol=1e-4)


def test_the_newest_version_is_read_and_configurations_have_names(tmp_path: Path) -> None:
    for version, value in (("1.9.0", 1), ("1.10.0", 2), ("1.2.0", 3)):
        write_set(tmp_path / "pets" / version, {"train": examples(value), "test": examples(value)})
    write_set(tmp_path / "zoo" / "big" / "2.0.0", {"train": examples(8), "test": examples(9)})
    (tmp_path / "pets" / "incomplete.XY_2.0.0").mkdir()
    newest = data.load("pets", tmp_path)
    assert greys(newest.train, newest) == [2]
    assert data.names(tmp_path) == ["digits", "mnist1d", "mnist1d-50k", "pets", "zoo/big"]
    big = data.load("zoo/big", tmp_path)
    assert greys(big.test, big) == [9]


def test_a_set_beyond_the_budget_stays_in_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts = {"train": examples(1, 2, 3), "validation": examples(4), "test": examples(5, 6)}
    for name in ("here", "there"):
        write_set(tmp_path / name / "1.0.0", parts, shards=2)
    here = data.load("here", tmp_path)
    monkeypatch.setattr(lazy, "BUDGET", 4 * 4 * (4 * 5 * 3) - 1)  # a byte less than is needed
    there = data.load("there", tmp_path)
    assert isinstance(there.train.x, lazy.LazyArray)
    rows = np.array([[3, 0], [2, 2]])
    for part, other in ((here.train, there.train), (here.test, there.test)):
        assert other.x.shape == part.x.shape
        np.testing.assert_array_equal(other.y, part.y)
        np.testing.assert_array_equal(other.x[rows % len(part)], part.x[rows % len(part)])
    assert (there.mean, there.std) == (here.mean, here.std)  # of all, there are so few
    np.testing.assert_array_equal(there.train.first(2).x[np.arange(2)], here.train.x[:2])
    assert len(there.train.first(99)) == len(here.train)
    some = there.train.take(np.array([2, 0]))
    np.testing.assert_array_equal(some.x[np.array([1])], here.train.x[:1])
    order = data.permutation(20, seed=0)
    moved, expected = data.permute(there, order), data.permute(here, order)
    np.testing.assert_array_equal(moved.train.x[np.arange(4)], expected.train.x)


def test_validation_stands_in_for_test_and_joins_train_beside_it(tmp_path: Path) -> None:
    parts = {"train": examples(1, 2), "validation": examples(3)}
    write_set(tmp_path / "two" / "1.0.0", parts)
    write_set(tmp_path / "three" / "1.0.0", {**parts, "test": examples(4)})
    two, three = data.load("two", tmp_path), data.load("three", tmp_path)
    assert (greys(two.train, two), greys(two.test, two)) == ([1, 2], [3])
    assert (greys(three.train, three), greys(three.test, three)) == ([1, 2, 3], [4])


def test_supervised_keys_decide_between_labels_and_other_features_do_not_matter(
    tmp_path: Path,
) -> None:
    import tensorflow_datasets as tfds

    features = {
        "coarse": tfds.features.ClassLabel(names=["animal"]),
        "id": tfds.features.Text(),
        "image": tfds.features.Image(shape=(4, 5, 3)),
        "label": tfds.features.ClassLabel(num_classes=2),
        "where": {"latitude": np.float32},
    }
    example = {"coarse": 0, "id": "x", "where": {"latitude": 1.0}}
    parts = {
        split: [example | one for one in examples(*values)]
        for split, values in {"train": (1, 2), "test": (3,)}.items()
    }
    write_set(tmp_path / "fine" / "1.0.0", parts, features, supervised=("image", "label"))
    fine = data.load("fine", tmp_path)
    assert fine.classes == ("0", "1")
    assert fine.train.y.tolist() == [1, 0]
    write_set(tmp_path / "coarse" / "1.0.0", parts, features, supervised=("image", "coarse"))
    coarse = data.load("coarse", tmp_path)
    assert coarse.classes == ("animal",)
    assert coarse.train.y.tolist() == [0, 0]
    write_set(tmp_path / "unclear" / "1.0.0", parts, features, supervised=())
    with pytest.raises(InputError, match="one ClassLabel feature, got 2"):
        data.load("unclear", tmp_path)


def test_images_of_several_sizes_are_resized(tmp_path: Path) -> None:
    sizes = [{"image": png(value, (8, value)), "label": 0} for value in (10, 20)]
    write_set(tmp_path / "ragged" / "1.0.0", {"train": sizes, "test": sizes})
    with pytest.raises(InputError, match=r"must have one size, .* give a size"):
        data.load("ragged", tmp_path)
    resized = data.load("ragged", tmp_path, size=(4, 5))
    assert resized.input_shape == (4, 5, 3)
    assert [
        round(float(x)) for x in (resized.train.x * resized.std + resized.mean)[:, -1, -1, 0]
    ] == [10, 20]
    assert data.load("ragged", tmp_path, size=(4, 5), channels=1).input_shape == (4, 5, 1)


def test_decoded_images_are_kept_until_the_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pets" / "1.0.0"
    write_set(folder, {"train": examples(1), "test": examples(2)})
    first = data.load("pets", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(files, "_read", lambda *_: pytest.fail("decoded a second time"))
        again = data.load("pets", tmp_path)
    np.testing.assert_array_equal(again.train.x, first.train.x)
    assert again.classes == first.classes
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()
    write_set(folder, {"train": examples(3), "test": examples(2)})
    changed = data.load("pets", tmp_path)
    assert greys(changed.train, changed) == [3]


def test_loading_needs_neither_network_nor_tensorflow(tmp_path: Path) -> None:
    write_set(tmp_path / "pets" / "1.0.0", {"train": examples(1), "test": examples(2)})
    code = """
import socket, sys
def refuse(*args, **kwargs):
    raise AssertionError("the network was asked")
socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from cnn.data import load
assert "tensorflow_datasets" not in sys.modules
assert load("pets", sys.argv[1]).input_shape == (4, 5, 3)
assert "tensorflow_datasets" in sys.modules
assert "tensorflow" not in sys.modules
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[1],
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def refused(name: str, data_dir: Path) -> str:
    with pytest.raises(InputError) as caught:
        data.load(name, data_dir)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_set_that_is_not_prepared(tmp_path: Path) -> None:
    assert refused("mnist", tmp_path) == (
        f"data set 'mnist' is not prepared in {tmp_path}: prepare it with "
        f"python -m experiments.prepare mnist --data-dir {tmp_path}"
    )


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere (no folder)" in refused("mnist", tmp_path / "nowhere")


def test_a_mistyped_name(tmp_path: Path) -> None:
    write_set(tmp_path / "pets" / "1.0.0", {"train": examples(1), "test": examples(2)})
    assert "did you mean 'mnist1d' or 'mnist'" in refused("mnst1d", tmp_path)
    assert "did you mean 'pets'" in refused("pet", tmp_path)
    assert "did you mean 'fashion_mnist'" in refused("fashion-mnist", tmp_path)
    assert "configuration of data set 'emnist', 'leters': did you mean 'letters'" in refused(
        "emnist/leters", tmp_path
    )
    assert "'emnist' has configurations: give one of emnist/byclass, emnist/bymerge" in refused(
        "emnist", tmp_path
    )
    assert "'mnist' has no configurations, got 'mnist/letters'" in refused(
        "mnist/letters", tmp_path
    )
    assert "prepared in" in refused("zzzz", tmp_path)
    assert "unknown data set 'pets/../pets'" in refused("pets/../pets", tmp_path)


def test_data_dir_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNN_DATA_DIR", "/from/environment")
    assert data_root(None) == Path("/from/environment")
    assert data_root(tmp_path) == tmp_path
    monkeypatch.setenv("CNN_DATA_DIR", "")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert data_root(None) == tmp_path / "tensorflow_datasets"
    monkeypatch.delenv("HOME")
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)  # as for a user of a container
    with pytest.raises(InputError, match="without a home folder, got '~/tensorflow_datasets': giv"):
        data_root(None)


def test_tfrecord_is_named_with_the_remedy(tmp_path: Path) -> None:
    parts = {"train": examples(1), "test": examples(2)}
    write_set(tmp_path / "old" / "1.0.0", parts, file_format="tfrecord")
    message = refused("old", tmp_path)
    assert "stored as tfrecord" in message
    assert "array_record" in message


def test_sets_that_are_not_for_image_classification(tmp_path: Path) -> None:
    import tensorflow_datasets as tfds

    label = tfds.features.ClassLabel(names=["a", "b"])
    text = {"text": tfds.features.Text(), "label": label}
    reviews = [{"text": "good", "label": 1}]
    write_set(tmp_path / "reviews" / "1.0.0", {"train": reviews, "test": reviews}, text)
    assert "one Image feature, got 0" in refused("reviews", tmp_path)

    deep = {"image": tfds.features.Image(shape=(4, 5, 3), dtype=np.uint16), "label": label}
    write_set(tmp_path / "deep" / "1.0.0", {"train": examples(1), "test": examples(2)}, deep)
    assert "must be uint8" in refused("deep", tmp_path)

    write_set(tmp_path / "single" / "1.0.0", {"train": examples(1), "extra": examples(2)})
    assert "needs a split 'train', and 'test' or 'validation', got ['extra', 'train']" in refused(
        "single", tmp_path
    )

    sizes = [{"image": png(1, size), "label": 0} for size in ((4, 5), (6, 5))]
    write_set(tmp_path / "ragged" / "1.0.0", {"train": sizes, "test": examples(2)})
    assert "got 2 sizes from (4, 5) to (6, 5)" in refused("ragged", tmp_path)

    write_set(tmp_path / "empty" / "1.0.0", {"train": examples(1), "test": []})
    assert "no examples in its split 'test'" in refused("empty", tmp_path)


def test_no_code_that_a_set_names_is_imported(tmp_path: Path) -> None:
    folder = tmp_path / "strange" / "1.0.0"
    write_set(folder, {"train": examples(1), "test": examples(2)})
    features = (folder / "features.json").read_text()
    ours = "tensorflow_datasets.core.features.image_feature.Image"
    assert features.count(ours) == 1
    (folder / "features.json").write_text(features.replace(ours, "antigravity.Image"))
    assert "['antigravity.Image']" in refused("strange", tmp_path)
    assert "antigravity" not in sys.modules


@pytest.mark.fault
def test_a_damaged_record_is_named(tmp_path: Path, tally: Tally) -> None:
    folder = tmp_path / "pets" / "1.0.0"
    train = examples(*range(1, 9))
    write_set(folder, {"train": train, "test": examples(2)}, shards=2)
    file = folder / "pets-train.array_record-00001-of-00002"
    whole = file.read_bytes()
    at = whole.index(train[5]["image"])  # the third in the second shard: 2, 4, 6, 8
    file.write_bytes(whole[: at + 40] + b"damage" + whole[at + 46 :])
    assert f"record 2 of {file}" in refused("pets", tmp_path)
    file.write_bytes(whole[: len(whole) // 2])
    assert f"of {file}" in refused("pets", tmp_path)
    file.unlink()
    assert "No such file" in refused("pets", tmp_path)
    (folder / "features.json").write_text("{")
    assert "features.json" in refused("pets", tmp_path)
    tally("data records damaged, cut off or gone: one line with file and record", 4)


@pytest.mark.fault
def test_an_image_that_cannot_be_decoded_is_named(tmp_path: Path, tally: Tally) -> None:
    broken = [*examples(1, 2), {"image": png(3)[:40], "label": 0}]
    write_set(tmp_path / "pets" / "1.0.0", {"train": broken, "test": examples(2)})
    assert "record 2 of" in refused("pets", tmp_path)
    tally("data records damaged, cut off or gone: one line with file and record", 1)


def encoded(pixels: np.ndarray, kind: str) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, kind)
    return file.getvalue()


@pytest.mark.parametrize("channels", [1, 3])
def test_png_of_16_bits_keeps_its_high_bytes(tmp_path: Path, channels: int) -> None:
    """As TensorFlow decodes it for 8 bits. Converting with Pillow clips all but 2 grey levels."""
    values = (np.arange(20, dtype=np.uint16) * 3000).reshape(4, 5)
    records = [{"image": encoded(values, "PNG"), "label": 0}] * 2
    features = {
        "image": tensorflow_datasets.features.Image(shape=(4, 5, channels)),
        "label": tensorflow_datasets.features.ClassLabel(names=["cat", "dog"]),
    }
    write_set(tmp_path / "deep" / "1.0.0", {"train": records, "test": records}, features)
    loaded = data.load("deep", data_dir=tmp_path)
    raw = loaded.train.x[0] * loaded.std + loaded.mean
    np.testing.assert_allclose(raw, np.repeat((values >> 8)[..., None], channels, -1), atol=1e-3)


def test_pixels_of_32_bits_are_refused_by_record(tmp_path: Path) -> None:
    records = [{"image": encoded(np.ones((4, 5), np.float32), "TIFF"), "label": 0}] * 2
    write_set(tmp_path / "wide" / "1.0.0", {"train": records, "test": records})
    with pytest.raises(InputError, match=r"'wide', record 0 of .*pixels must have 8 bits.* mode F"):
        data.load("wide", data_dir=tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "shape", "train", "mean", "std"),
    [  # the per-channel figures that are in general use for these sets, of 255
        ("mnist", (28, 28, 1), 60_000, [0.1307], [0.3081]),
        ("fashion_mnist", (28, 28, 1), 60_000, [0.2860], [0.3530]),
        ("cifar10", (32, 32, 3), 50_000, [0.4914, 0.4822, 0.4465], [0.247, 0.2435, 0.2616]),
    ],
)
def test_known_sets(
    prepared: Prepared,
    name: str,
    shape: tuple[int, ...],
    train: int,
    mean: list[float],
    std: list[float],
) -> None:
    made = data.load(name, prepared(name))
    assert made.train.x.shape == (train, *shape)
    assert made.test.x.shape == (10_000, *shape)
    assert np.bincount(made.test.y).tolist() == pytest.approx([1000] * 10, abs=150)
    np.testing.assert_allclose(np.array(made.mean) / 255, mean, atol=1e-3)
    np.testing.assert_allclose(np.array(made.std) / 255, std, atol=3e-3)
    assert abs(made.train.x.mean(dtype=np.float64)) < 1e-5
    assert abs(made.train.x.std(dtype=np.float64) - 1) < 1e-5
