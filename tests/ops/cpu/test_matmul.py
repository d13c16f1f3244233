"""Matrix product with both gradients in one call."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cnn.ops.cpu.matmul import matmul
from tests.ops.cpu.against_lax import Op, assert_same_derivatives, few_examples
from tests.ops.strategies import numbers


@few_examples
@given(sizes=st.lists(st.integers(1, 4), min_size=3, max_size=5), seed=st.integers(0, 2**16))
def test_value_and_gradients(sizes: list[int], seed: int) -> None:
    rng, (*batch, c_in, c_out) = np.random.default_rng(seed), sizes
    x, w = numbers(rng, (*batch, c_in)), numbers(rng, (c_in, c_out))
    assert_same_derivatives(matmul, jnp.matmul, x, w)


@pytest.mark.parametrize(("with_dx", "with_dw"), [(1, 0), (0, 1), (1, 1)])
def test_forward_mode(with_dx: int, with_dw: int) -> None:
    """It is the product rule, without the term of an argument that is held constant."""
    rng = np.random.default_rng(0)
    x, dx, w, dw = (jnp.asarray(numbers(rng, (3, 3))) for _ in range(4))

    def moved(t: jax.Array) -> jax.Array:
        return matmul(x + t * dx if with_dx else x, w + t * dw if with_dw else w)

    _, found = jax.jvp(moved, (jnp.float32(0),), (jnp.float32(1),))
    assert_array_equal(found, with_dx * (dx @ w) + with_dw * (x @ dw))


def test_weights_are_updated_in_place() -> None:
    """Separate gradients need a copy of the weights that an optimizer step overwrites."""

    def copies(multiply: Op) -> int:
        def step(weights: list[jax.Array], x: jax.Array) -> list[jax.Array]:
            def loss(weights: list[jax.Array]) -> jax.Array:
                return jnp.square(multiply(jnp.tanh(multiply(x, weights[0])), weights[1])).sum()

            return jax.tree.map(lambda w, g: w - g, weights, jax.grad(loss)(weights))

        weights, x = [jnp.ones((64, 64))] * 2, jnp.ones((8, 64))
        compiled = jax.jit(step, donate_argnums=0).lower(weights, x).compile()
        return compiled.as_text().count(" copy(")

    assert copies(matmul) == 0
    assert copies(jnp.matmul) > 0
