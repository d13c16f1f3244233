"""Adaptive pooling: loops over bins, and examples by hand. PyTorch: see test_pool.py."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from tests.ops import loops
from tests.ops.strategies import numbers


@given(data=st.data())
def test_adaptive_pooling_reduces_the_cells_that_each_bin_overlaps(data: st.DataObject) -> None:
    """Bins smaller, equal and larger than a cell."""
    rank = data.draw(st.integers(1, 3))
    size, out = data.draw(st.tuples(*[st.tuples(*[st.integers(1, 9 - 2 * rank)] * rank)] * 2))
    x = numbers(np.random.default_rng(0), (2, *size, 2))

    def both(x):  # type: ignore[no-untyped-def]
        return ops.adaptive_max_pool(x, out), ops.adaptive_avg_pool(x, out)

    largest, mean = jax.jit(both)(x)
    assert_array_equal(largest, loops.adaptive_pool(x, out, np.max))
    assert_allclose(mean, loops.adaptive_pool(x, out, np.mean), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("size", "out"), [(45, 16), (45, 17), (20, 45), (34, 17)])
def test_many_bins(size: int, out: int) -> None:
    """More than 16 bins are no longer slices."""
    x = numbers(np.random.default_rng(0), (2, size, 3))
    assert_array_equal(ops.adaptive_max_pool(x, out), loops.adaptive_pool(x, (out,), np.max))
    mean = ops.adaptive_avg_pool(x, out)
    assert_allclose(mean, loops.adaptive_pool(x, (out,), np.mean), rtol=1e-5, atol=1e-6)


def test_adaptive_pooling_by_hand() -> None:
    x = np.arange(5, dtype=np.float32)[None, :, None]
    assert_array_equal(ops.adaptive_max_pool(x, 3).ravel(), [1, 3, 4])
    assert_array_equal(ops.adaptive_avg_pool(x, 3).ravel(), [0.5, 2, 3.5])
    assert_array_equal(ops.adaptive_avg_pool(x, 5), x)
    assert_array_equal(ops.adaptive_avg_pool(x[:, :2], 3).ravel(), [0, 0.5, 1])
