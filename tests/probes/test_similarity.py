"""How alike filters are, by hand."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.ablations import densify, lift
from cnn.layers import Conv
from cnn.probes.similarity import (
    best_window_share,
    neighbour_cosines,
    places_at_random,
    shifted_cosines,
    signs_at_random,
)


def test_neighbours_by_hand() -> None:
    """Of two channels at two positions, (1, 0) is nearest to (3, 4), and (0, 1) to (0, 2)."""
    weights = np.array([[[1.0, 0], [0, 1]], [[0, 2], [3, 4]]])
    kernel = weights.swapaxes(1, 2)[:, :, None]  # (positions, offsets, 1, channels)
    np.testing.assert_allclose(neighbour_cosines(kernel), [[0.6, 1]])
    kernel[0, :, :, 0] = 0
    np.testing.assert_allclose(neighbour_cosines(kernel), [[np.nan, 1]])


def test_cosines_at_shifts_by_hand() -> None:
    """Shifted by 2, (1, 2) is the same. A shift by 1 is less than the stride; one by 2 is left."""
    filters = np.zeros((3, 6))
    filters[0, :2] = filters[1, 2:4] = 1, 2
    same = filters.T[:, None, :, None]  # (in, 1, out, 1)
    np.testing.assert_allclose(shifted_cosines(same, 2, 160), [1, 1, np.nan])
    filters[1] = 0, 1, 2, 0, 0, 0
    near = filters.T[:, None, :, None]
    np.testing.assert_allclose(shifted_cosines(near, 2, 160), [0.4, 0.4, np.nan])


def test_a_convolution_as_a_dense_layer_is_shared() -> None:
    """But for the filters at the edges: 3 of 6 positions are 4 or more from both."""
    layer, x = Conv(2, (9,), 2, 4), jnp.zeros((1, 20, 1))
    params = dict(layer.init(jax.random.key(0), x))
    dense = lift(params, layer, densify(layer), (20, 1))["params"]["kernel"]
    cosines = shifted_cosines(np.asarray(dense, float), 2, 160).reshape(10, 2)
    np.testing.assert_allclose(cosines[2:8], 1, atol=1e-6)
    images = shifted_cosines(np.random.default_rng(0).normal(size=(4, 5, 2, 2, 2, 3)), 2, 160)
    assert images.shape == (12,) and (images < 1).all()


def test_the_best_window_of_a_filter_by_hand() -> None:
    """Nine neighbours of equal weight are all in one window; two far apart never are."""
    near, far = np.zeros((2, 40))
    near[20:29] = 1
    far[[0, 39]] = 1
    kernel = np.stack([near, far, 0 * far], -1).reshape(40, 1, 3, 1)
    assert best_window_share(kernel, 9) == pytest.approx((1 + 0.5) / 2)
    image = np.zeros((12, 12, 2, 1, 1, 1))
    image[2:11, 3:12, 0] = 1
    image[0, 0, 1] = 27**0.5  # squared 27, beside 81
    assert best_window_share(image, 9) == pytest.approx(81 / 108)


def test_at_random_keeps_what_it_says() -> None:
    """Signs keep sizes and places; places keep the values of each filter, and are others."""
    kernel = np.random.default_rng(1).normal(size=(30, 2, 3, 4))
    signs, places = signs_at_random(kernel), places_at_random(kernel)
    np.testing.assert_array_equal(np.abs(signs), np.abs(kernel))
    assert 0.4 < (signs == kernel).mean() < 0.6
    for filters, others in zip(_flat(kernel), _flat(places), strict=True):
        np.testing.assert_array_equal(np.sort(filters), np.sort(others))
        assert (filters != others).mean() > 0.8


def _flat(kernel: np.ndarray) -> np.ndarray:
    return kernel.reshape(60, 12).T
