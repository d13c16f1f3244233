"""The place of the first largest value by two reductions."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.ops.cpu.argmax import argmax, fits
from cnn.ops.implementations import use
from tests.ops.strategies import numbers


@pytest.mark.parametrize(("shape", "axis"), [((3, 20, 4), 1), ((2, 3, 17, 2), 2), ((16, 1), 0)])
def test_argmax_is_that_of_numpy(shape: tuple[int, ...], axis: int) -> None:
    """Whole numbers from -4 to 4 have many ties; NaN comes first, and so does the first of two."""
    x = numbers(np.random.default_rng(0), shape)
    assert fits(jax.numpy.asarray(x), axis)
    assert_array_equal(argmax(x, axis), x.argmax(axis, keepdims=True))
    x.flat[[3, 7, 11]] = np.nan
    assert_array_equal(argmax(x, axis), x.argmax(axis, keepdims=True))
    x[:] = -np.inf
    assert_array_equal(argmax(x, axis), x.argmax(axis, keepdims=True))


def test_a_global_maximum_has_the_gradient_of_the_definition() -> None:
    x = numbers(np.random.default_rng(0), (3, 5, 7, 2))
    slopes = []
    for implementation in ("fastest", "reference"):
        with use(implementation):
            slopes.append(jax.jit(jax.grad(lambda x: (ops.global_max_pool(x) ** 2).sum()))(x))
    assert_array_equal(*slopes)
    assert (slopes[0] != 0).sum() <= 3 * 2
