"""Pooling of each kind, by hand."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

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
