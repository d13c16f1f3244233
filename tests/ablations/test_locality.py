"""Dense layers in place of convolutions, with and without a radius."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ablations
from cnn.layers import Conv, DenseSpatial

CONV = Conv(3, (5,), strides=2, padding=2, padding_mode="reflect", use_bias=False, scale=0.5)


def test_densify_and_localize_keep_the_output_size() -> None:
    dense = DenseSpatial(3, (5,), strides=2, padding=2, use_bias=False, scale=0.5)
    assert ablations.densify(CONV) == dense
    assert ablations.localize(CONV, 2) == dense.clone(radius=2)
    assert ablations.densify(ablations.localize(CONV, 2)) == dense
    around = ablations.localize(CONV.clone(padding_mode="circular"), 2)
    assert around == dense.clone(radius=2, padding_mode="circular")


def test_localized_dense_layer_sees_what_is_near_and_nothing_else() -> None:
    layer = DenseSpatial(1, (3,), strides=2, padding=1, radius=1)
    x = jnp.zeros((1, 6, 1))
    ones = jax.tree.map(jnp.ones_like, layer.init(jax.random.key(0), x))
    moves = jax.jacobian(lambda x: layer.apply(ones, x[None, :, None])[0, :, 0])(jnp.zeros(6))
    # centres 0, 2, 4
    np.testing.assert_array_equal(
        moves, [[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]]
    )
    around = layer.clone(padding_mode="circular").apply
    moves = jax.jacobian(lambda x: around(ones, x[None, :, None])[0, :, 0])(jnp.zeros(6))
    np.testing.assert_array_equal(moves[0], [1, 1, 0, 0, 0, 1])
    # A window of 4 has its centre between two positions: 1.5, then 3.5.
    even = DenseSpatial(1, (4,), strides=2, radius=1)
    ones = jax.tree.map(jnp.ones_like, even.init(jax.random.key(0), x))
    moves = jax.jacobian(lambda x: even.apply(ones, x[None, :, None])[0, :, 0])(jnp.zeros(6))
    np.testing.assert_array_equal(moves, [[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]])


@pytest.mark.parametrize("radius", [None, 0, 1, 2, 9])
def test_localized_dense_layer_starts_with_unit_variance(radius: int | None) -> None:
    """One draw of 40,000 unit inputs and weights: 1 ± 3 · √2/200."""
    layer = DenseSpatial(200, (3,), padding=1, scale=1.0, use_bias=False, radius=radius)
    x = jnp.ones((1, 9, 20))
    y = layer.apply(layer.init(jax.random.key(1), x), x)
    middle = y[0, 4]  # whose window is inside the input
    assert abs(float(middle.var()) - 1) < 0.3
