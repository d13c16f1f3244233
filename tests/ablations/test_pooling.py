"""Pooling of each kind, by hand."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations
from cnn.errors import InputError, LayerError
from cnn.layers import AvgPool, BlurPool, MaxPool

SIGNAL = jnp.array([0.0, 4.0, 8.0, 2.0, 6.0, 2.0, 1.0])[None, :, None]
POOLED = {
    "max": [8, 8, 6],
    "avg": [4, 16 / 3, 3],
    "stride": [4, 2, 2],
    # maxima of 3 at stride 1: 8 8 8 6 6; then (1 2 1)/4, reflected, at 0, 2, 4
    "blur": [8, 7.5, 6],
    "none": [0, 4, 8, 2, 6, 2, 1],
}


@pytest.mark.parametrize("kind", POOLED)
def test_pooling_by_hand(kind: ablations.Pooling) -> None:
    pool = ablations.repool(MaxPool((3,), strides=2), kind)
    np.testing.assert_allclose(pool.apply({}, SIGNAL).ravel(), POOLED[kind], rtol=1e-6)


def test_pooling_from_each_to_each_keeps_the_size() -> None:
    x = jnp.ones((1, 9, 9, 2))
    for start in (MaxPool((2, 2)), AvgPool((3, 3), 2, padding=1), BlurPool()):
        size = start.apply({}, x).shape
        for kind in ("max", "avg", "stride", "blur"):
            assert ablations.repool(start, kind).apply({}, x).shape == size
    assert ablations.pool_window(MaxPool((2, 2)), 3).apply({}, x).shape == (1, 4, 4, 2)
    assert ablations.pool_window(BlurPool(), 5) == BlurPool(5)
    with pytest.raises(LayerError, match="only MaxPool has a dilation, got 2"):
        ablations.repool(MaxPool(2, dilation=2), "avg")
    with pytest.raises(InputError, match="unknown pooling 'mean'"):
        ablations.repool(MaxPool(2), "mean")  # type: ignore[arg-type]


def test_overlapping_windows_by_hand() -> None:
    wide = ablations.pool_window(MaxPool((1,), strides=2), 3)
    np.testing.assert_array_equal(wide.apply({}, SIGNAL).ravel(), [4, 8, 6, 2])


@pytest.mark.parametrize("size", [5, 6, 7, 8, 9])
@pytest.mark.parametrize(
    ("layer", "first"),
    [
        (BlurPool(3, 2), lambda n: 0),
        (BlurPool(5, 3), lambda n: 0),
        (MaxPool((3,), 2, "SAME"), lambda n: 1 - n % 2),  # one pad before for odd sizes
        (AvgPool((3,), 2, "SAME"), lambda n: 1 - n % 2),
        (MaxPool((3,), 2, ((0, 1),)), lambda n: 1),
    ],
)
def test_the_sampling_grid_stays(layer: nn.Module, first: Callable[[int], int], size: int) -> None:
    """The centres are at `first`, and at every stride-th position from there on."""
    x = jnp.arange(float(size))[None, :, None]
    count = layer.apply({}, x).shape[1]
    expected = first(size) + layer.strides * np.arange(count)
    stride = ablations.repool(layer, "stride")
    np.testing.assert_array_equal(stride.apply({}, x).ravel(), expected)
    # On a slope the mean of a whole window is its centre, and so is the blur of maxima minus 1.
    inner = (expected > 2) & (expected < size - 2)
    wide = layer.window if isinstance(layer.window, int) else layer.window[0]
    mean = ablations.repool(layer, "avg").apply({}, x).ravel()
    np.testing.assert_allclose(mean[inner], expected[inner])
    largest = ablations.repool(layer, "max").apply({}, x).ravel()
    np.testing.assert_allclose(largest[inner], expected[inner] + wide // 2)
    if isinstance(layer, MaxPool):
        blurred = ablations.repool(layer, "blur").apply({}, x).ravel()
        inner = (expected > 1) & (expected < size - 2)
        np.testing.assert_allclose(blurred[inner], expected[inner] + 1)
