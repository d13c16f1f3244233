"""Dense layers: the equations as loops, and the number of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cnn import ops
from tests.ops import loops
from tests.ops.strategies import numbers


@given(sizes=st.lists(st.integers(1, 4), min_size=2, max_size=5), seed=st.integers(0, 2**16))
def test_dense_is_the_matrix_product(sizes: list[int], seed: int) -> None:
    """y[..., o] = Σ_c x[..., c] · W[c, o], with any number of axes before the last."""
    rng, (*batch, c_in, c_out) = np.random.default_rng(seed), sizes
    x, kernel = numbers(rng, (*batch, c_in)), numbers(rng, (c_in, c_out))
    expected = np.zeros((*batch, c_out))
    for o in range(c_out):
        for c in range(c_in):
            expected[..., o] += x[..., c] * kernel[c, o]
    assert_array_equal(ops.dense(x, kernel), expected)


def test_dense_is_the_fourth_order_equation() -> None:
    """y[b, p, o] = bias + Σ_i Σ_c x[b, i, c] · W[i, c, p, o], from a 2×3 to a 4×1 map."""
    rng = np.random.default_rng(0)
    x, kernel = numbers(rng, (2, 2, 3, 2)), numbers(rng, (2, 3, 2, 4, 1, 3))
    expected = np.zeros((2, 4, 1, 3))
    for i in loops.indices((2, 3, 2)):
        for p in loops.indices((4, 1, 3)):
            expected[:, *p] += x[:, *i] * kernel[i + p]
    assert_array_equal(ops.dense_spatial(x, kernel), expected)
    for shape in [(3,), (4, 1, 3)]:
        bias = numbers(rng, shape)
        assert_array_equal(ops.dense_spatial(x, kernel, bias), expected + bias)


def test_a_thousand_dense_units_on_a_megapixel_need_a_billion_weights() -> None:
    image = jax.ShapeDtypeStruct((1, 1000, 1000, 1), jnp.float32)
    kernel = jax.ShapeDtypeStruct((1000, 1000, 1, 1, 1, 1000), jnp.float32)
    assert jax.eval_shape(ops.dense_spatial, image, kernel).shape == (1, 1, 1, 1000)
    assert kernel.size == 10**9
