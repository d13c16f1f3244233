"""Data sets: values, the held-out rule, transforms, the cache, and sets that TFDS prepared."""

from __future__ import annotations

import io
import json
import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn import data
from cnn.data import builtin, cache, lazy, tfds
from cnn.data.dataset import Dataset, Split, from_images, rank_in_class, split_last
from cnn.data.registry import data_root
from cnn.errors import InputError
from tests.conftest import Prepared
from tests.reliability import Tally


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def numbered(train_y: list[int], test_y: list[int] | None = None, spatial: int = 1) -> Dataset:
    """A set in which every value is different, so that values tell where an example came from."""
    test_y = train_y if test_y is None else test_y
    n, m = len(train_y), len(test_y)
    x = np.arange((n + m) * spatial, dtype=np.float32).reshape(n + m, spatial, 1)
    classes = tuple(str(c) for c in range(max(train_y + test_y) + 1))
    splits = [Split(x[:n], np.int32(train_y)), Split(x[n:], np.int32(test_y))]
    return Dataset("numbered", *splits, classes, mean=(0.0,), std=(1.0,))


def rows(split: Split) -> set[bytes]:
    return {x.tobytes() for x in split.x}


# What is built in


@pytest.fixture(scope="module")
def mnist1d() -> tuple[Dataset, bool]:
    """The set as first made, and whether making it left the global random states alone."""
    before = random.getstate(), np.random.get_state()
    made = data.load("mnist1d")
    after = random.getstate(), np.random.get_state()
    same = before[0] == after[0] and all(
        np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True)
    )
    return made, same


def test_mnist1d_is_the_published_set(mnist1d: tuple[Dataset, bool]) -> None:
    made, _ = mnist1d
    assert made.train.x.shape == (4000, 40, 1)
    assert made.test.x.shape == (1000, 40, 1)
    assert made.input_shape == (40, 1)
    assert made.num_classes == 10
    labels = np.concatenate([made.train.y, made.test.y])
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 500))
    x = np.concatenate([made.train.x, made.test.x]).astype(np.float64)
    assert abs(x.mean()) < 1e-6
    assert abs(x.std() - 1) < 1e-6
    # what mnist1d 0.0.2.post1 makes, with NumPy 2 on Python 3.11 and on 3.13
    assert made.train.y[:12].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9]
    first = [-0.332006, -0.471910, -0.778697, -1.009741]
    np.testing.assert_allclose(made.train.x[0, :4, 0], first, atol=1e-5)


def test_making_mnist1d_leaves_the_global_random_states_alone(
    mnist1d: tuple[Dataset, bool],
) -> None:
    assert mnist1d[1]


def test_mnist1d_is_made_once(
    mnist1d: tuple[Dataset, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "_make_mnist1d", lambda: pytest.fail("made a second time"))
    again = data.load("mnist1d")
    np.testing.assert_array_equal(again.train.x, mnist1d[0].train.x)
    np.testing.assert_array_equal(again.test.y, mnist1d[0].test.y)


def test_mnist1d_parts_share_no_example(mnist1d: tuple[Dataset, bool]) -> None:
    made, _ = mnist1d
    chosen = made.held_out()
    parts = [rows(chosen.train), rows(chosen.test), rows(made.test)]
    assert [len(part) for part in parts] == [len(chosen.train), len(chosen.test), 1000]
    assert len(set.union(*parts)) == 5000


def test_digits() -> None:
    digits = data.load("digits")
    assert digits.input_shape == (8, 8, 1)
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    # 1,797 images of 178, 182, 177, 183, 181, 182, 181, 179, 174 and 180: a fifth of each, rounded
    assert np.bincount(digits.test.y).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    # the first row of the first image, as scikit-learn's documentation prints it
    grey = digits.train.x[0, 0, :, 0] * digits.std[0] + digits.mean[0]
    np.testing.assert_allclose(grey, [0, 0, 5, 13, 9, 1, 0, 0], atol=1e-5)
    assert digits.train.y[0] == 0
    assert abs(digits.train.x.mean(dtype=np.float64)) < 1e-6
    assert abs(digits.train.x.std(dtype=np.float64) - 1) < 1e-6


# Scaling


def test_images_are_standardised_by_the_training_images_channel_by_channel() -> None:
    # channel 0: 0, 0, 4, 4 (mean 2, deviation 2); channel 1: always 7; test values do not count
    train_x = np.array([[[0, 7], [4, 7]], [[4, 7], [0, 7]]], np.uint8)
    test_x = np.array([[[255, 255], [2, 7]]], np.uint8)
    made = from_images("made", train_x, np.array([0, 1]), test_x, np.array([1]), ("a", "b"))
    assert (made.mean, made.std) == ((2.0, 7.0), (2.0, 1.0))
    np.testing.assert_array_equal(made.train.x, [[[-1, 0], [1, 0]], [[1, 0], [-1, 0]]])
    np.testing.assert_array_equal(made.test.x, [[[126.5, 248], [0, 0]]])
    assert (made.train.x.dtype, made.train.y.dtype) == (np.float32, np.int32)


@given(st.integers(0, 2**32 - 1))
def test_scaling_agrees_with_numpy_in_double_precision(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = rng.integers(0, 256, (5, 4, 3, 3), dtype=np.uint8)
    made = from_images("made", x, np.zeros(5, int), x, np.zeros(5, int), ("a",))
    wide = x.astype(np.float64)
    expected = (wide - wide.mean((0, 1, 2))) / wide.std((0, 1, 2))
    np.testing.assert_allclose(made.train.x, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"test": Split(np.zeros((2, 3, 1), np.float32), np.zeros(2, np.int32))}, "shape"),
        ({"train": Split(np.zeros((2, 1, 1), np.float64), np.zeros(2, np.int32))}, "float64"),
        ({"train": Split(np.zeros((2, 1, 1), np.float32), np.zeros(3, np.int32))}, "(3,)"),
        ({"test": Split(np.zeros((2, 1), np.float32), np.zeros(2, np.int32))}, "spatial"),
        ({"test": Split(np.zeros((0, 1, 1), np.float32), np.zeros(0, np.int32))}, "no examples"),
        ({"classes": ("only",)}, "labels from 0 to 1 for 1 classes"),
        (
            {"test": Split(np.zeros((1, 1, 1), np.float32), np.array([-1], np.int32))},
            "from -1 to -1",
        ),
    ],
)
def test_arrays_that_do_not_fit_are_refused(change: dict[str, Any], said: str) -> None:
    good = numbered([0, 1, 1])
    fields = {name: getattr(good, name) for name in good.__dataclass_fields__}
    with pytest.raises(InputError) as caught:
        Dataset(**{**fields, **change})
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


# The held-out part


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60))
def test_rank_in_class_counts_what_came_before(y: list[int]) -> None:
    assert rank_in_class(np.array(y)).tolist() == [y[:i].count(y[i]) for i in range(len(y))]


def test_split_last_takes_the_last_of_each_class_in_stored_order() -> None:
    kept, last = split_last(np.array([1, 0, 1, 0, 0, 1, 0, 1, 0]), 1 / 4)
    # class 0 in rows 1, 3, 4, 6, 8, class 1 in rows 0, 2, 5, 7: the last of 5 / 4 and of 4 / 4
    assert last.tolist() == [7, 8]
    assert kept.tolist() == [0, 1, 2, 3, 4, 5, 6]


@given(st.permutations([0] * 20 + [1] * 31 + [2] * 3))
def test_held_out_is_a_tenth_of_each_class_of_the_training_data(y: list[int]) -> None:
    whole = numbered(y)
    chosen = whole.held_out()
    assert np.bincount(chosen.test.y, minlength=3).tolist() == [2, 3, 0]
    assert rows(chosen.train) | rows(chosen.test) == rows(whole.train)
    assert not rows(chosen.train) & rows(chosen.test)
    assert not rows(whole.test) & (rows(chosen.train) | rows(chosen.test))


def test_held_out_of_a_set_stored_class_after_class_has_every_class() -> None:
    assert numbered([0] * 10 + [1] * 10).held_out().test.y.tolist() == [0, 1]


def test_held_out_of_too_few_examples() -> None:
    with pytest.raises(InputError, match="no examples"):
        numbered([0, 1, 1, 1]).held_out()


# Transforms


def test_permute_moves_positions_and_keeps_channels_together() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)  # positions 0..5 hold (2p, 2p + 1)
    split = Split(x, np.zeros(1, np.int32))
    moved = data.permute(
        Dataset("six", split, split, ("a",), (0.0,), (1.0,)), np.array([5, 0, 1, 2, 3, 4])
    )
    expected = [[[[10, 11], [0, 1], [2, 3]], [[4, 5], [6, 7], [8, 9]]]]
    np.testing.assert_array_equal(moved.train.x, expected)
    np.testing.assert_array_equal(moved.test.x, expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_permute_is_undone_by_the_inverse_permutation(seed: int, positions: int) -> None:
    whole = numbered([0, 1, 0], spatial=positions)
    order = data.permutation(positions, seed)
    back = data.permute(data.permute(whole, order), np.argsort(order))
    np.testing.assert_array_equal(back.train.x, whole.train.x)
    np.testing.assert_array_equal(back.test.x, whole.test.x)
    np.testing.assert_array_equal(back.train.y, whole.train.y)


def test_permutation_is_decided_by_the_seed() -> None:
    order = data.permutation(40, seed=0)
    assert sorted(order) == list(range(40))
    np.testing.assert_array_equal(order, data.permutation(40, seed=0))
    assert (order != data.permutation(40, seed=1)).any()
    assert (order != np.arange(40)).any()


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3], [[0, 1, 2]]])
def test_permute_refuses_what_is_no_permutation(order: list[int]) -> None:
    with pytest.raises(InputError, match=r"permutation\(3, seed\)"):
        data.permute(numbered([0, 1], spatial=3), np.array(order))


def test_subset_is_balanced_and_nested() -> None:
    whole = numbered([0] * 50 + [1] * 30 + [2] * 3)
    small, large = data.subset(whole, 6, seed=0), data.subset(whole, 23, seed=0)
    assert np.bincount(small.train.y).tolist() == [2, 2, 2]
    assert np.bincount(large.train.y).tolist() == [10, 10, 3]  # class 2 has no more
    assert rows(small.train) < rows(large.train) < rows(whole.train)
    assert rows(data.subset(whole, 6, seed=1).train) != rows(small.train)
    np.testing.assert_array_equal(large.test.x, whole.test.x)
    everything = data.subset(whole, 83, seed=0)
    np.testing.assert_array_equal(everything.train.x, whole.train.x)


@pytest.mark.parametrize("n", [0, -1, 4])
def test_subset_refuses_sizes_that_are_not_there(n: int) -> None:
    with pytest.raises(InputError, match="take 1 to 3"):
        data.subset(numbered([0, 1, 1]), n, seed=0)


# The cache


@pytest.fixture
def cache_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "cnn-biases"


def made(value: int) -> dict[str, np.ndarray]:
    return {"x": np.full((3, 2), value, np.float32), "names": np.array(["a", "bc"])}


def test_cache_makes_once_per_key_and_keeps_one_file(cache_folder: Path) -> None:
    calls = []

    def make() -> dict[str, np.ndarray]:
        calls.append(1)
        return made(len(calls))

    for key, value in (("one", 1), ("one", 1), ("two", 2), ("two", 2), ("one", 3)):
        found = cache.cached("name", key, make)
        assert sorted(found) == ["names", "x"]
        np.testing.assert_array_equal(found["x"], np.full((3, 2), value))
        assert found["names"].tolist() == ["a", "bc"]
    assert [file.name for file in cache_folder.iterdir()] == ["name.npz"]


@pytest.mark.fault
def test_cache_never_returns_damaged_arrays(cache_folder: Path) -> None:
    cache.cached("name", "key", lambda: made(5))
    file = cache_folder / "name.npz"
    whole = file.read_bytes()
    remade = 0
    for position in range(0, len(whole), 3):
        file.write_bytes(whole[:position] + bytes([whole[position] ^ 0xFF]) + whole[position + 1 :])
        found = cache.cached("name", "key", lambda: made(5) | {"again": np.array(1)})
        remade += "again" in found
        np.testing.assert_array_equal(found["x"], np.full((3, 2), 5))
    assert remade > len(whole) / 3 / 2
    for length in (0, 1, 100, len(whole) - 1):
        file.write_bytes(whole[:length])
        assert cache.cached("name", "key", lambda: made(6))["x"][0, 0] == 6


def test_cache_runs_no_pickle(cache_folder: Path) -> None:
    cache_folder.mkdir()
    with (cache_folder / "name.npz").open("wb") as file:
        key = np.array([f"{cache.FORMAT} key", "x"])
        np.savez(file, key=key, x=np.array([Path("object")], dtype=object))
    assert cache.cached("name", "key", lambda: made(7))["x"][0, 0] == 7


def test_cache_that_cannot_be_written_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("not a folder")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert cache.cached("name", "key", lambda: made(8))["x"][0, 0] == 8

    def homeless() -> Path:
        raise RuntimeError("no home")

    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setattr(Path, "home", homeless)
    assert cache.cached("name", "key", lambda: made(9))["x"][0, 0] == 9


# Sets that TFDS prepared


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
    assert data.names(tmp_path) == ["digits", "mnist1d", "pets", "zoo/big"]
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
    with pytest.raises(InputError, match="2 ClassLabel features"):
        data.load("unclear", tmp_path)


def test_decoded_images_are_kept_until_the_files_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "pets" / "1.0.0"
    write_set(folder, {"train": examples(1), "test": examples(2)})
    first = data.load("pets", tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(tfds, "_decode", lambda *_: pytest.fail("decoded a second time"))
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
    message = refused("mnist", tmp_path)
    assert f"looked for {tmp_path}/mnist/" in message
    assert f"python -m experiments.prepare mnist --data-dir {tmp_path}" in message


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    assert "nowhere (no folder)" in refused("mnist", tmp_path / "nowhere")


def test_a_mistyped_name(tmp_path: Path) -> None:
    write_set(tmp_path / "pets" / "1.0.0", {"train": examples(1), "test": examples(2)})
    assert "did you mean 'mnist1d'?" in refused("mnst1d", tmp_path)
    assert "did you mean 'pets'?" in refused("pet", tmp_path)
    assert "unknown data set 'pets/../pets'" in refused("pets/../pets", tmp_path)


def test_data_dir_comes_from_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNN_DATA_DIR", "/from/environment")
    assert data_root(None) == Path("/from/environment")
    assert data_root(tmp_path) == tmp_path
    monkeypatch.setenv("CNN_DATA_DIR", "")
    monkeypatch.setenv("HOME", "/home/somebody")
    assert data_root(None) == Path("/home/somebody/tensorflow_datasets")


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
    assert "0 Image features" in refused("reviews", tmp_path)

    deep = {"image": tfds.features.Image(shape=(4, 5, 3), dtype=np.uint16), "label": label}
    write_set(tmp_path / "deep" / "1.0.0", {"train": examples(1), "test": examples(2)}, deep)
    assert "must be uint8" in refused("deep", tmp_path)

    write_set(tmp_path / "single" / "1.0.0", {"train": examples(1), "extra": examples(2)})
    assert "it needs 'train', and 'test' or 'validation'" in refused("single", tmp_path)

    sizes = [{"image": png(1, size), "label": 0} for size in ((4, 5), (6, 5))]
    write_set(tmp_path / "ragged" / "1.0.0", {"train": sizes, "test": examples(2)})
    assert "of 2 sizes, (4, 5) to (6, 5)" in refused("ragged", tmp_path)

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


def test_blocks_move_as_a_whole() -> None:
    """Every block of the permuted map is a block of the map: its rows are runs of neighbours."""
    order = data.permutation((4, 6), seed=3, block=2).reshape(4, 6)
    assert sorted(order.ravel()) == list(range(24))
    corners = {0, 2, 4, 12, 14, 16}  # of the blocks of a map 4 × 6, in row-major order
    found = set()
    for i, j in np.ndindex(2, 3):
        block = order[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        np.testing.assert_array_equal(block, block[0, 0] + np.array([[0, 1], [6, 7]]))
        found.add(int(block[0, 0]))
    assert found == corners
    np.testing.assert_array_equal(data.permutation((3, 3), seed=0, block=3), range(9))
    np.testing.assert_array_equal(data.permutation(12, seed=5), data.permutation((3, 4), seed=5))
    assert not np.array_equal(data.permutation(40, 0, 4), data.permutation(40, 1, 4))
    for block in (0, 4):
        with pytest.raises(InputError, match=f"block {block} does not divide the size"):
            data.permutation((4, 6), seed=0, block=block)
