"""Penalties: values and gradients by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.errors import InputError
from cnn.layers import Conv, ConvLocal, ConvTiled, DenseSpatial
from cnn.probes.regularizers import locality_penalty, sharing_penalty

locality_penalty = jax.jit(locality_penalty, static_argnums=1)  # compiles less than without
sharing_penalty = jax.jit(sharing_penalty, static_argnums=1)


@pytest.mark.parametrize(
    ("layer", "shape", "expected"),
    [
        (Conv(1, 3), (3, 1, 1), 1 + 0 + 1),
        (Conv(1, 3, dilation=2), (3, 1, 1), 4 + 0 + 4),
        (Conv(1, 2), (2, 1, 1), 1 / 4 + 1 / 4),  # the centre of an even window is between two
        (Conv(5, (3, 3)), (3, 3, 2, 5), 2 * 5 * (4 * 1 + 4 * 2)),
        (ConvTiled(1, 3), (2, 3, 1, 1), 2 * 2),
        (ConvLocal(1, 3), (7, 3, 1, 1), 7 * 2),
        # Centres 1 and 2: distances 1 0 1 2 and 2 1 0 1.
        (DenseSpatial(1, 3), (4, 1, 2, 1), (1 + 0 + 1 + 4) + (4 + 1 + 0 + 1)),
        # Centres 0 and 2.
        (DenseSpatial(1, 3, strides=2, padding=1), (4, 1, 2, 1), (0 + 1 + 4 + 9) + (4 + 1 + 0 + 1)),
        # Around the border of 4, from 0 and 2: 0 1 2 1 each.
        (DenseSpatial(1, 3, 2, 1, "circular"), (4, 1, 2, 1), 2 * (0 + 1 + 4 + 1)),
        (DenseSpatial(1, 1, radius=1), (4, 1, 4, 1), 1 + 2 + 2 + 1),
        # Two axes: Σ (Δ₀² + Δ₁²) over 2·3 inputs and outputs: 9 · 2 + 4 · 12.
        (DenseSpatial(1, 1), (2, 3, 1, 2, 3, 1), 9 * 2 + 4 * 12),
    ],
)
def test_locality_penalty_of_ones_is_the_sum_of_squared_distances(layer, shape, expected) -> None:
    assert float(locality_penalty(jnp.ones(shape), layer)) == pytest.approx(expected)
    assert float(locality_penalty(2 * jnp.ones(shape), layer)) == pytest.approx(4 * expected)


def test_the_gradient_of_the_locality_penalty_grows_with_distance() -> None:
    layer = DenseSpatial(1, 1)
    gradient = jax.grad(locality_penalty)(jnp.ones((6, 1, 6, 1)), layer)[:, 0, :, 0]
    i, p = np.indices((6, 6))
    np.testing.assert_allclose(gradient, 2.0 * (i - p) ** 2)


def test_sharing_penalty_by_hand() -> None:
    layer = ConvLocal(1, 2)
    kernel = jnp.array([[1.0, 5.0], [3.0, 5.0], [8.0, 5.0]])[..., None, None]
    assert float(sharing_penalty(kernel, layer)) == pytest.approx(9 + 1 + 16)  # the mean is 4
    tiled = ConvTiled(1, 2, period=3)
    assert float(sharing_penalty(kernel, tiled)) == pytest.approx(26)
    gradient = jax.grad(sharing_penalty)(kernel, layer)[:, 0, 0, 0]
    np.testing.assert_allclose(gradient, [-6.0, -2.0, 8.0], atol=1e-5)


def test_sharing_penalty_of_a_dense_kernel_compares_along_diagonals() -> None:
    """The diagonals of [[1, 2], [3, 5]]: 1 and 5 with mean 3, 2 alone, 3 alone."""
    kernel = jnp.array([[1.0, 2.0], [3.0, 5.0]])[:, None, :, None]
    assert float(sharing_penalty(kernel, DenseSpatial(1, 1))) == pytest.approx(4 + 4)
    # With circular padding 2 and 3 are on one diagonal too.
    around = DenseSpatial(1, 1, padding_mode="circular")
    assert float(sharing_penalty(kernel, around)) == pytest.approx(8 + 0.5)


@pytest.mark.parametrize(
    ("size", "fields"),
    [
        ((9,), {"strides": 2, "padding": "SAME"}),
        ((6, 5), {"strides": (1, 2), "padding": "FULL", "dilation": 2}),
        ((6, 8), {"strides": 2, "padding": "SAME", "padding_mode": "circular"}),
    ],
)
def test_the_sharing_penalty_of_a_convolution_is_zero(size: tuple, fields: dict) -> None:
    kernel = jax.random.normal(jax.random.key(0), (3,) * len(size) + (2, 4))
    dense = ops.conv_matrix(kernel, (*size, 2), **fields)
    layer = DenseSpatial(4, 3, **fields)
    assert float(sharing_penalty(dense, layer)) < 1e-10 * float(jnp.square(dense).sum())
    assert float(sharing_penalty(dense + kernel.mean(), layer)) < 1e-10 * dense.size
    assert float(sharing_penalty(dense[::-1], layer)) > 1.0
    assert float(sharing_penalty(kernel, Conv(4, 3))) == 0.0


@pytest.mark.parametrize(
    ("layer", "shape", "message"),
    [
        (Conv(4, 3), (5, 2, 4), r"kernel has shape \(5, 2, 4\) but the layer's window is \(3,\)"),
        (Conv(4, 3), (2, 4), r"kernel of shape \(2, 4\) has the wrong number of axes for Conv"),
        (ConvLocal(4, 3), (7, 3, 2, 4, 1), r"wrong number of axes for ConvLocal"),
        (DenseSpatial(4, 3), (5, 2, 5, 4), r"on size \(5,\) the output is \(3,\)"),
    ],
)
def test_bad_kernels(layer, shape: tuple, message: str) -> None:
    with pytest.raises(InputError, match=message):
        locality_penalty(jnp.zeros(shape), layer)
