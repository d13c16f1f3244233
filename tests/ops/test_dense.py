"""Dense layers: the equations as loops, and the number of weights."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.errors import InputError
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


def test_token_mixing_is_one_matrix_for_all_channels() -> None:
    """y[b, p, c] = bias[p] + Σ_i x[b, i, c] · W[i, p], from a 2×3 to a 4×1 map."""
    rng = np.random.default_rng(0)
    x, kernel, bias = (numbers(rng, shape) for shape in [(2, 2, 3, 5), (2, 3, 4, 1), (4, 1)])
    expected = np.zeros((2, 4, 1, 5)) + bias[..., None]
    for i in loops.indices((2, 3)):
        for p in loops.indices((4, 1)):
            expected[:, *p] += x[:, *i] * kernel[i + p]
    assert_array_equal(ops.token_mixing(x, kernel, bias), expected)


@pytest.mark.parametrize(
    ("kernel", "bias", "message"),
    [
        ((2, 3, 4), (4,), r"kernel must have 4 axes .*, got shape \(2, 3, 4\)"),
        (
            (3, 2, 4, 1),
            (4, 1),
            r"kernel must have 4 axes .* \(2, 2, 3, 5\), got shape \(3, 2, 4, 1\)",
        ),
        ((2, 3, 4, 1), (4, 1, 5), r"bias must have shape \(4, 1\), got \(4, 1, 5\)"),
    ],
)
def test_token_mixing_refuses_other_shapes(
    kernel: tuple[int, ...], bias: tuple[int, ...], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        ops.token_mixing(jnp.zeros((2, 2, 3, 5)), jnp.zeros(kernel), jnp.zeros(bias))


def test_a_thousand_dense_units_on_a_megapixel_need_a_billion_weights() -> None:
    image = jax.ShapeDtypeStruct((1, 1000, 1000, 1), jnp.float32)
    kernel = jax.ShapeDtypeStruct((1000, 1000, 1, 1, 1, 1000), jnp.float32)
    assert jax.eval_shape(ops.dense_spatial, image, kernel).shape == (1, 1, 1, 1000)
    assert kernel.size == 10**9
