"""The study end to end, in few steps."""

import json
from pathlib import Path

import numpy as np
import pytest

from cnn.data import Dataset, Split, load
from cnn.errors import InputError
from cnn.geometry import describe
from experiments import ladder


def test_the_rungs_differ_in_one_thing() -> None:
    """Parameters by hand: windows 5, 3, 3 over maps of 40, 19, 10 and 5 positions, 25 channels."""
    import jax
    import jax.numpy as jnp

    def count(kernels: int, biases: int) -> int:
        return kernels + biases + 125 * 10 + 10

    taps = [5 * 1 * 25, 3 * 25 * 25, 3 * 25 * 25]
    maps = [19, 10, 5]
    inputs = [40 * 1, 19 * 25, 10 * 25]
    expected = {
        "conv": count(sum(taps), 75),
        "tiled-2": count(2 * sum(taps), 2 * 75),
        "tiled-4": count(4 * sum(taps), 4 * 75),
        "local": count(sum(n * k for n, k in zip(maps, taps, strict=True)), sum(maps) * 25),
        "dense": count(sum(i * n * 25 for i, n in zip(inputs, maps, strict=True)), sum(maps) * 25),
        "mlp": 40 * 100 + 100 + 100 * 100 + 100 + 100 * 10 + 10,
        "logistic": 40 * 10 + 10,
    }
    assert expected["conv"] == 5210
    models = ladder.rungs(load("mnist1d"))
    assert list(models) == list(expected)
    for name, model in models.items():
        made = jax.eval_shape(model.init, jax.random.key(0), jnp.zeros((1, 40, 1)))
        assert sum(leaf.size for leaf in jax.tree.leaves(made)) == expected[name], name


def test_the_rungs_on_images() -> None:
    """Windows of 3×3 over maps of 14×14 and 7×7 positions, 16 channels."""
    images = np.zeros((1, 28, 28, 1), np.float32)
    split = Split(images, np.zeros(1, np.int32))
    data = Dataset("images", split, split, tuple("0123456789"), (0.0,), (1.0,))
    head = 7 * 7 * 16 * 10 + 10
    taps = [9 * 16, 9 * 16 * 16]
    expected = {
        "conv": sum(taps) + 2 * 16,
        "tiled-2": 4 * (sum(taps) + 2 * 16),
        "tiled-4": 16 * (sum(taps) + 2 * 16),
        "local": 14**2 * (taps[0] + 16) + 7**2 * (taps[1] + 16),
        "dense": 14**2 * 16 * (28**2 + 1) + 7**2 * 16 * (14**2 * 16 + 1),
    }
    models = ladder.rungs(data)
    for name, hidden in expected.items():
        assert describe(models[name], (28, 28, 1)).params == hidden + head, name


def test_permuted_is_the_same_data_elsewhere() -> None:
    data = load("mnist1d")
    both = ladder.orders(data, only_permuted=False)
    assert both["ordered"] is data
    moved = both["permuted"].train.x
    assert not np.array_equal(moved, data.train.x)
    np.testing.assert_array_equal(np.sort(moved, axis=1), np.sort(data.train.x, axis=1))
    assert list(ladder.orders(data, only_permuted=True)) == ["permuted"]


def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ladder.STUDY.run(ladder.Settings(steps=2, seeds=1, permute=True, batch_size=96, out=tmp_path))
    printed = capsys.readouterr().out
    rungs = list(ladder.rungs(load("mnist1d")))
    assert all(rung in printed for rung in rungs)
    assert "56%" in printed  # the published value stands beside ours
    names = {"results.jsonl", "ladder.png", "ladder.svg", "report.html", "summary.json"}
    assert {p.name for p in tmp_path.glob("[!.]*")} == names
    rows = [json.loads(line) for line in (tmp_path / "results.jsonl").read_text().splitlines()]
    assert len(rows) == 7
    assert {(r["rung"], r["order"], r["seed"]) for r in rows} == {
        (rung, "permuted", 0) for rung in rungs
    }
    assert (tmp_path / "ladder.png").read_bytes().startswith(b"\x89PNG")
    page = (tmp_path / "report.html").read_text()
    assert ladder.QUESTION in page
    assert "data:image/svg+xml;base64," in page
    assert not any(outside in page for outside in ("src='http", 'src="http', "href="))


def test_wrong_settings_leave_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="seeds"):
        ladder.STUDY.run(ladder.Settings(seeds=0, out=tmp_path / "new"))
    assert list(tmp_path.iterdir()) == []
