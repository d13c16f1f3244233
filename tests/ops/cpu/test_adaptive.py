"""Adaptive pooling, one cell of all bins after another."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.ops.bins import Bins
from cnn.ops.cpu import adaptive
from cnn.ops.implementations import use
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples
from tests.ops.strategies import numbers


@few_examples
@given(size=st.integers(1, 40), out=st.integers(1, 40), axis=st.integers(1, 2))
def test_largest_of_bins_and_its_ties(size: int, out: int, axis: int) -> None:
    """Small whole numbers have many ties."""
    bins = Bins(size, out, axis)
    assume(adaptive.fits(jnp.zeros(()), bins))
    x = numbers(np.random.default_rng(size), (2, *(size if a == axis else 3 for a in (1, 2)), 2))

    def by_loop(x: jax.Array) -> jax.Array:
        def first_largest(part: jax.Array) -> jax.Array:
            place = jax.lax.broadcasted_iota(jnp.int32, part.shape, axis)
            first = part.argmax(axis, keepdims=True)
            return jnp.where(place == first, part, 0).sum(axis)

        parts = (
            x[:, i:j] if axis == 1 else x[:, :, i:j] for i, j in zip(*bins.positions, strict=True)
        )
        return jnp.stack([first_largest(part) for part in parts], axis)

    assert_same_derivatives(partial(adaptive.largest, bins=bins), by_loop, x)


@few_examples
@given(size=st.integers(1, 40), out=st.integers(1, 40))
def test_mean_of_bins_is_a_product_with_a_matrix(size: int, out: int) -> None:
    """So are its gradient and its tangent."""
    bins = Bins(size, out, 1)
    assume(adaptive.fits(jnp.zeros(()), bins))
    matrix = np.zeros((out, size), np.float32)
    for i in range(out):
        start, end = i * size // out, -(-(i + 1) * size // out)
        matrix[i, start:end] = 1 / (end - start)
    rng = np.random.default_rng(out)
    x, dx = (rng.standard_normal((2, size, 3)).astype(np.float32) for _ in range(2))
    g = rng.standard_normal((2, out, 3)).astype(np.float32)
    pool = partial(adaptive.mean, bins=bins)
    y, backward = jax.vjp(pool, x)
    assert_allclose(y, matrix @ x, atol=1e-5)
    assert_allclose(backward(g)[0], matrix.T @ g, atol=1e-5)
    assert_allclose(jax.jvp(pool, (x,), (dx,))[1], matrix @ dx, atol=1e-5)


def test_nan_is_the_largest() -> None:
    x = np.array([1, np.nan, 3, 0, 0], np.float32)[None, :, None]
    bins = Bins(5, 2, 1)
    assert_array_equal(adaptive.largest(x, bins).ravel(), [np.nan, 3])
    (slope,) = jax.vjp(partial(adaptive.largest, bins=bins), x)[1](np.ones((1, 2, 1), np.float32))
    assert_array_equal(slope.ravel(), [0, 1, 1, 0, 0])


@pytest.mark.parametrize("op", [ops.adaptive_max_pool, ops.adaptive_avg_pool])
def test_no_gradient_adds_to_one_position_after_another(
    op: Callable[..., jax.Array],
) -> None:
    """And the program does not grow with the input."""

    def program(size: int, out: int, implementation: Any = "fastest") -> str:
        x = jnp.zeros((1, size, 1))
        with use(implementation):
            return jax.jit(jax.grad(lambda x: op(x, out).sum())).lower(x).as_text()

    long = program(1000, 300)
    assert "scatter" not in long and "scatter" in program(1000, 300, "reference")
    assert long.count("\n") <= 1.2 * program(100, 30).count("\n")
