"""Learned locality and sharing: convolutions, equal weights and independent weights."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.layers import Conv, ConvGroup, ConvLocal, ConvTiled, DenseSpatial
from cnn.probes import learned_locality, learned_sharing

learned_locality = jax.jit(learned_locality, static_argnums=(1, 2))  # compiles less than without
learned_sharing = jax.jit(learned_sharing, static_argnums=1)

FIELDS = [
    ((11,), {"strides": 2, "padding": 1}),
    ((6, 7), {"padding": "SAME"}),
    ((6, 8), {"strides": 2, "padding": "SAME", "padding_mode": "circular"}),
]


@pytest.mark.parametrize(("size", "fields"), FIELDS)
def test_a_convolution_written_out_is_local_and_shared(size: tuple, fields: dict) -> None:
    kernel = jax.random.normal(jax.random.key(0), (3,) * len(size) + (2, 4))
    dense = ops.conv_matrix(kernel, (*size, 2), **fields)
    layer = DenseSpatial(4, 3, **fields)
    assert float(learned_locality(dense, layer, 1)) == pytest.approx(1.0, abs=1e-6)
    assert float(learned_locality(dense, layer, 0)) < 0.9
    np.testing.assert_allclose(learned_sharing(dense, layer), 1.0, atol=1e-5)


def test_uniform_level_by_hand() -> None:
    """On 5 positions with stride 1, 13 of 25 pairs are at most one apart."""
    ones, layer = jnp.ones((5, 2, 5, 3)), DenseSpatial(3, 1)
    assert float(learned_locality(ones, layer, 1)) == pytest.approx(13 / 25)
    assert float(learned_locality(ones, layer, 4)) == 1.0
    around = DenseSpatial(3, 1, padding_mode="circular")
    assert float(learned_locality(ones, around, 1)) == pytest.approx(15 / 25)
    plane = jnp.ones((5, 5, 1, 5, 5, 1))
    assert float(learned_locality(plane, layer, 1)) == pytest.approx((13 / 25) ** 2)
    window = jnp.ones((7, 5, 1, 1))
    assert float(learned_locality(window, ConvLocal(1, 5), 1)) == pytest.approx(3 / 5)


def test_a_group_convolution_is_the_convolution_that_it_computes() -> None:
    """Also with a window of 4, the number of transformations, on the axis where they are."""
    kernel = jax.random.normal(jax.random.key(0), (4, 4, 4, 1, 2))
    ours = learned_locality(kernel, ConvGroup(2, 4, group="p4"), 0.5)
    theirs = learned_locality(ops.group_kernel(kernel, "p4"), Conv(8, 4), 0.5)
    assert float(ours) == pytest.approx(float(theirs))


def test_weights_beyond_the_radius_of_a_layer_do_not_count() -> None:
    """They keep their initial values; no output depends on them."""
    kernel = jax.random.normal(jax.random.key(0), (9, 2, 9, 3))
    assert float(learned_locality(kernel, DenseSpatial(3, 1, radius=2), 2)) == pytest.approx(1.0)


def test_independent_weights_are_at_the_uniform_level_and_not_shared() -> None:
    """65,536 weights: shares are within 4 standard errors, √(2 / 65,536) · 4 = 0.02 at most."""
    kernel, layer = jax.random.normal(jax.random.key(1), (16, 16, 16, 16)), DenseSpatial(16, 1)
    for radius in (0, 1, 3, 7):
        uniform = float(learned_locality(jnp.ones_like(kernel), layer, radius))
        assert float(learned_locality(kernel, layer, radius)) == pytest.approx(uniform, abs=0.02)
    sharing = np.asarray(learned_sharing(kernel, layer))
    assert sharing.shape == (16,) and sharing[0] == pytest.approx(1)
    # A pair at distance d compares (16 − d) · 256 weights, and there are 16 − d pairs.
    bounds = 4 / np.sqrt((16 - np.arange(1, 16)) ** 2 * 256)
    assert (np.abs(sharing[1:]) < bounds).all()
    local = jax.random.normal(jax.random.key(2), (6, 6, 3, 3, 16, 16))
    assert np.abs(learned_sharing(local, ConvLocal(16, 3))[1:]).max() < 0.03


def test_broadcast_kernels_are_shared_and_their_distances_counted() -> None:
    one = jax.random.normal(jax.random.key(0), (3, 3, 2, 4))
    local = jnp.broadcast_to(one, (4, 6, *one.shape))
    np.testing.assert_allclose(learned_sharing(local, ConvLocal(4, 3)), np.ones(6), atol=1e-5)
    np.testing.assert_allclose(learned_sharing(one, Conv(4, 3)), [1.0], atol=1e-6)


def test_correlation_against_distance_by_hand() -> None:
    """Filters (1, 0), (0, 1), (-2, 0), (0, 3): cosines 0, 0, 0; then -1, 1; then 0."""
    kernel = jnp.array([[1.0, 0.0], [0.0, 1.0], [-2.0, 0.0], [0.0, 3.0]])[..., None, None]
    np.testing.assert_allclose(
        learned_sharing(kernel, ConvLocal(1, 2)), [1.0, 0.0, 0.0, 0.0], atol=1e-6
    )
    kernel = kernel.at[3].set(jnp.array([1.0, 1.0])[:, None, None])
    r = np.sqrt(0.5)
    np.testing.assert_allclose(
        learned_sharing(kernel, ConvTiled(1, 2, period=4)), [1, -r / 3, (r - 1) / 2, r], atol=1e-6
    )


def test_filters_with_nothing_to_compare_do_not_count() -> None:
    """A dead filter has no direction; at distance 2 there is no other pair."""
    kernel = jnp.array([1.0, 1.0, 0.0])[:, None, None, None]
    sharing = np.asarray(learned_sharing(kernel, ConvLocal(1, 1)))
    np.testing.assert_array_equal(sharing, [1.0, 1.0, np.nan])
