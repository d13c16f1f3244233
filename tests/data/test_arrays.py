"""Arrays in any common layout become the same data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.data import Dataset
from cnn.data.standardize import statistics

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (40, 6, 5, 3), np.uint8)
LABELS = np.arange(40) % 4


def raw(data: Dataset, part: str = "train") -> np.ndarray:
    """Undo the standardization."""
    return getattr(data, part).x * np.array(data.std) + np.array(data.mean)


def test_without_a_test_part_the_seed_draws_a_fifth_of_every_class() -> None:
    first, again, other = (Dataset.from_arrays(IMAGES, LABELS, seed=seed) for seed in (0, 0, 1))
    assert np.bincount(first.train.y).tolist() == [8] * 4
    assert np.bincount(first.test.y).tolist() == [2] * 4
    np.testing.assert_array_equal(first.train.x, again.train.x)
    assert not np.array_equal(first.test.x, other.test.x)
    half = Dataset.from_arrays(IMAGES, LABELS, test_fraction=0.5)
    assert np.bincount(half.test.y).tolist() == [5] * 4
    together = np.concatenate([raw(half), raw(half, "test")]).round().astype(np.uint8)
    assert {x.tobytes() for x in together} == {x.tobytes() for x in IMAGES}


def test_the_training_part_alone_standardizes_both() -> None:
    x = np.array([[1.0], [3.0], [1.0], [3.0]])[..., None]
    data = Dataset.from_arrays(x, [0, 1, 0, 1], (x[:2] + 10, [0, 1]), name="two")
    assert (data.name, data.mean, data.std) == ("two", (2.0,), (1.0,))
    assert data.train.x.ravel().tolist() == [-1, 1, -1, 1]
    assert data.test.x.ravel().tolist() == [9, 11]


@given(st.sampled_from([np.float32, np.float64]), st.floats(-5, 5), st.floats(-3, 3))
def test_floats_of_any_range_have_mean_0_and_deviation_1(
    dtype: Any, shift: float, log: float
) -> None:
    x = (RNG.standard_normal((50, 7, 2)) * 10**log + shift).astype(dtype)
    data = Dataset.from_arrays(x, LABELS[:10].repeat(5), (x, LABELS[:10].repeat(5)))
    wide = x.astype(np.float64)
    expected = (wide - wide.mean((0, 1))) / wide.std((0, 1))
    assert data.train.x.dtype == np.float32
    np.testing.assert_allclose(data.train.x, expected, atol=1e-5)


def test_a_large_offset_does_not_cost_precision() -> None:
    """Converted to float32 first, these would be all the same."""
    x = 1e9 + np.arange(40.0).reshape(40, 1, 1)
    data = Dataset.from_arrays(x, LABELS, (x, LABELS))
    np.testing.assert_allclose(np.diff(data.train.x.ravel()), 1 / np.arange(40).std(), rtol=1e-4)


def test_a_constant_channel_is_only_centred() -> None:
    """Its mean is rounded, so that its deviation would not be exactly 0."""
    x = np.concatenate([np.full((1000, 3, 1), 0.1), RNG.standard_normal((1000, 3, 1))], axis=-1)
    mean, std = statistics(x)
    assert std[0] == 1
    assert mean[0] == pytest.approx(0.1)
    data = Dataset.from_arrays(x, LABELS.repeat(25))
    assert abs(data.train.x[..., 0]).max() < 1e-6


@pytest.mark.parametrize(
    ("x", "axis", "shape"),
    [
        (IMAGES, None, (6, 5, 3)),
        (IMAGES[..., 0], None, (6, 5, 1)),  # wider than 4, so no channels
        (IMAGES.transpose(0, 3, 1, 2), 1, (6, 5, 3)),
        (IMAGES[..., 0].astype(np.float32), "none", (6, 5, 1)),
        (IMAGES[..., 0].astype(np.float32), -1, (6, 5)),
        (IMAGES[:, :, 0, 0].astype(np.float64), "none", (6, 1)),
        (np.zeros((40, 9, 2), np.float32), None, (9, 2)),
        (np.zeros((40, 4, 5, 6, 1)), None, (4, 5, 6, 1)),
    ],
)
def test_where_the_channels_are(x: np.ndarray, axis: Any, shape: tuple[int, ...]) -> None:
    data = Dataset.from_arrays(x, LABELS, (x, LABELS), channel_axis=axis)
    assert data.input_shape == shape


def test_channels_are_moved_to_the_end_with_their_values() -> None:
    last = Dataset.from_arrays(IMAGES, LABELS)
    first = Dataset.from_arrays(IMAGES.transpose(0, 3, 1, 2), LABELS, channel_axis=1)
    np.testing.assert_array_equal(first.train.x, last.train.x)


def test_labels_are_sorted_values_or_indices_of_names() -> None:
    names = np.array(["dog", "cat", "cat", "emu"]).repeat(10)
    by_name = Dataset.from_arrays(IMAGES, names, (IMAGES, names))
    assert by_name.classes == ("cat", "dog", "emu")
    assert by_name.train.y[::10].tolist() == [1, 0, 0, 2]
    column = Dataset.from_arrays(IMAGES, names.astype(object), (IMAGES, names))  # as of pandas
    np.testing.assert_array_equal(column.train.y, by_name.train.y)
    ordered = Dataset.from_arrays(IMAGES, names, (IMAGES, names), classes=["emu", "dog", "cat"])
    assert ordered.classes == ("emu", "dog", "cat")
    assert ordered.train.y[::10].tolist() == [1, 2, 2, 0]
    numbers = np.array([30, -1, 30, 7]).repeat(10)
    by_number = Dataset.from_arrays(IMAGES, numbers, (IMAGES, numbers))
    assert by_number.classes == ("-1", "7", "30")
    assert by_number.train.y[::10].tolist() == [2, 0, 2, 1]
    indexed = Dataset.from_arrays(IMAGES, LABELS, classes=list("abcdef"))
    assert (indexed.outputs, indexed.train.y.max()) == (6, 3)
    truth = Dataset.from_arrays(IMAGES, LABELS > 1)
    assert truth.classes == ("False", "True")


def test_float_targets_stay_as_they_are() -> None:
    y = RNG.standard_normal((40, 3))
    data = Dataset.from_arrays(IMAGES, y, (IMAGES, y), classes=["a", "b", "c"])
    np.testing.assert_array_equal(data.train.y, y.astype(np.float32))
    assert (data.has_classes, data.outputs, data.classes) == (False, 3, ("a", "b", "c"))
    single = Dataset.from_arrays(IMAGES, y[:, 0])
    assert (single.target_shape, len(single.train), len(single.test)) == ((1,), 32, 8)
    maps = Dataset.from_arrays(IMAGES, np.zeros((40, 6, 5, 2)))
    assert (maps.target_shape, maps.outputs, maps.classes) == ((6, 5, 2), 2, ())


def test_one_example_of_a_class_is_trained_on() -> None:
    y = np.array([0] * 39 + [1])
    data = Dataset.from_arrays(IMAGES, y, test_fraction=0.9)
    assert 1 in data.train.y
    assert 1 not in data.test.y
