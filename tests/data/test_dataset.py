"""Standardization, checks, and the held-out rule."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.data.dataset import Dataset, from_images
from cnn.data.lazy import LazyArray
from cnn.data.split import Split, rank_in_class, split_last
from cnn.errors import InputError
from tests.data.numbered import numbered, rows


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
        ({"classes": ("only",)}, "labels must be from 0 to 0, got 0 to 1"),
        ({"classes": ()}, "classes must name the classes of the labels, got none"),
        (
            {"train": Split(np.float32([0, np.nan, 2]).reshape(3, 1, 1), np.zeros(3, np.int32))},
            "x must be finite, got NaN or infinity in row 1",
        ),
        ({"test": Split(np.zeros((2, 1, 1), np.float32), np.zeros(2, np.float32))}, "float32 (2,)"),
        (
            {"test": Split(np.zeros((2, 1, 1), np.float32), np.zeros((2, 3), np.float32))},
            "y must be int32 (n,) as in train, got float32 (2, 3)",
        ),
        (
            {"test": Split(np.zeros((1, 1, 1), np.float32), np.array([-1], np.int32))},
            "got -1 to -1",
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


def with_targets(y: np.ndarray, classes: tuple[str, ...] = ()) -> Dataset:
    """A set whose values are all different, with these float targets in both parts."""
    split = Split(np.arange(len(y), dtype=np.float32).reshape(-1, 1, 1), np.float32(y))
    return Dataset("targets", split, split, classes, (0.0,), (1.0,))


def test_float_targets_have_a_shape_and_outputs_but_no_classes() -> None:
    maps, vectors = with_targets(np.zeros((3, 5, 4, 2))), with_targets(np.eye(3), ("a", "b", "c"))
    labels = numbered([0, 1, 2, 3])
    assert [d.target_shape for d in (maps, vectors, labels)] == [(5, 4, 2), (3,), ()]
    assert [d.outputs for d in (maps, vectors, labels)] == [2, 3, 4]
    assert [d.has_classes for d in (maps, vectors, labels)] == [False, False, True]
    assert labels.num_classes == 4
    with pytest.raises(InputError, match=r"float targets \(3,\): .* num_classes=data.outputs"):
        _ = vectors.num_classes
    assert vectors.train.take(np.array([2, 0])).y.tolist() == [[0, 0, 1], [1, 0, 0]]


def test_held_out_of_float_targets_is_the_last_tenth_of_all() -> None:
    chosen = with_targets(np.arange(30)[:, None]).held_out()
    assert chosen.test.y[:, 0].tolist() == [27, 28, 29]
    assert chosen.train.y[:, 0].tolist() == list(range(27))
    assert chosen.train.x[:, 0, 0].tolist() == list(range(27))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_float_targets_that_are_not_finite_are_named_by_row(value: float) -> None:
    y = np.zeros((4, 2))
    y[2, 1] = value
    with pytest.raises(InputError, match=r"'targets', train: y must be finite, got .* in row 2$"):
        with_targets(y)
    y[:3] = np.finfo(np.float32).max  # finite, although their sum is not
    y[2, 1] = 0
    with_targets(y)


def test_names_of_the_outputs_are_as_many_as_these() -> None:
    with pytest.raises(InputError, match=r"classes must name the 2 values .*, got 1 names"):
        with_targets(np.zeros((3, 2)), ("a",))
    with pytest.raises(InputError, match=r"no axis may have length 0, got .* \(3, 0\)"):
        with_targets(np.zeros((3, 0)))


def test_the_hash_follows_float_targets_and_their_shape() -> None:
    y = np.arange(24, dtype=np.float32).reshape(4, 6)
    changed = y.copy()
    changed[3, 5] = -1
    variants = [y, y.reshape(4, 2, 3), y.reshape(4, 3, 2), changed]
    assert len({with_targets(v).content_hash() for v in variants}) == 4
    labels = numbered([0, 1, 1])
    targets = [
        replace(split, y=split.y.view(np.float32)[:, None]) for split in (labels.train, labels.test)
    ]  # the same bytes
    same = Dataset("numbered", *targets, (), (0.0,), (1.0,))
    assert same.content_hash() != labels.content_hash()


def test_the_hash_of_class_labels_stays_that_of_earlier_versions() -> None:
    """Checkpoints hold it."""
    assert numbered([0, 1, 1]).content_hash()[:16] == "0786566df2cb5d27"


def test_the_hash_follows_every_label_and_value() -> None:
    data = numbered([0, 1, 1], [0, 1], spatial=2)
    seen = {data.content_hash(), replace(data, name="other").content_hash()}
    for part in ("train", "test"):
        split = getattr(data, part)
        for i in range(len(split)):
            x, y = split.x.copy(), split.y.copy()
            x[i, 0, 0] = -1
            y[i] = 1 - y[i]
            for changed in (Split(x, split.y), Split(split.x, y)):
                seen.add(replace(data, **{part: changed}).content_hash())
    assert len(seen) == 2 + 2 * 5
    assert numbered([0, 1, 1], [0, 1], spatial=2).content_hash() == data.content_hash()


def test_the_hash_of_files_does_not_depend_on_their_folder() -> None:
    """It reads a few examples only."""

    def stored(name: str, values: np.ndarray) -> Dataset:
        read: list[int] = []

        def images(rows: np.ndarray) -> np.ndarray:
            read.extend(rows)
            return values[rows, None, None].astype(np.uint8)

        x = LazyArray(name, images, np.arange(1000), (1, 1), (0.0,), (1.0,))
        split = Split(x, np.zeros(1000, np.int32))
        made = Dataset("set", split, split, ("a",), (0.0,), (1.0,))
        made.content_hash()
        assert len(read) == 2 * 256
        return made

    values = np.arange(1000) % 251
    one = stored("here", values).content_hash()
    assert one == stored("there", values).content_hash()
    assert one != stored("here", values // 2).content_hash()


def test_images_of_floats_and_labels_of_text_are_refused() -> None:
    """As integers, floats from 0 to 1 would have mean and deviation 0."""
    x, y = np.zeros((2, 3, 1), np.uint8), np.array([0, 1])
    with pytest.raises(InputError, match=r"'set', train: images must be uint8 .* got float32"):
        from_images("set", x.astype(np.float32), y, x, y, ("a", "b"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"'set', test: labels must be whole numbers, .* got <U1"):
        from_images("set", x, y, x, np.array(["a", "b"]), ("a", "b"))
