"""Fixed filters: their weights, and their outputs on ramps, steps and flat images."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.ops import filters
from tests.ops.strategies import numbers


def test_box_blur_is_one_ninth_everywhere() -> None:
    """Of 0, 9 and 18 the mean is 9; in the corner of a 3×3 image of 9 at the centre, 1."""
    assert_array_equal(filters.box_blur()[..., 0, 0], np.full((3, 3), np.float32(1 / 9)))
    assert filters.box_blur(4, rank=3).shape == (4, 4, 4, 1, 1)
    signal = np.array([0, 9, 18], np.float32)[None, :, None]
    assert_allclose(ops.conv(signal, filters.box_blur(rank=1)).ravel(), [9], rtol=1e-6)
    dot = np.zeros((1, 3, 3, 1), np.float32)
    dot[0, 1, 1, 0] = 9
    assert_allclose(ops.conv(dot, filters.box_blur(), padding="SAME"), np.ones_like(dot), rtol=1e-6)


def test_blur_is_pascals_triangle() -> None:
    assert_array_equal(filters.binomial_blur()[..., 0, 0] * 16, [[1, 2, 1], [2, 4, 2], [1, 2, 1]])
    assert_array_equal(filters.binomial_blur(5, rank=1).ravel() * 16, [1, 4, 6, 4, 1])
    assert filters.binomial_blur(4, rank=3).shape == (4, 4, 4, 1, 1)
    for size in range(1, 8):
        assert float(filters.binomial_blur(size).sum()) == 1


def test_edges_is_the_8_neighbour_laplacian_over_8() -> None:
    assert_array_equal(filters.edges()[..., 0, 0] * 8, [[-1, -1, -1], [-1, 8, -1], [-1, -1, -1]])


@pytest.mark.parametrize("axis", [0, 1])
def test_sobel_agrees_with_scipy_and_measures_slopes(axis: int) -> None:
    x = numbers(np.random.default_rng(0), (6, 7))
    y = ops.depthwise_conv(
        x[None, ..., None], filters.sobel(), padding="SAME", padding_mode="replicate"
    )
    assert_array_equal(y[0, ..., axis], scipy.ndimage.sobel(x, axis, mode="nearest"))
    ramp = np.broadcast_to(3 * np.arange(5, dtype=np.float32), (5, 5))
    slopes = ops.depthwise_conv(ramp[None, ..., None], filters.sobel())
    assert_array_equal(slopes[..., 0], np.zeros((1, 3, 3)))
    assert_array_equal(slopes[..., 1], np.full((1, 3, 3), 8 * 3))


def test_finite_difference_of_squares() -> None:
    squares = np.arange(5, dtype=np.float32)[None, :, None] ** 2
    assert_array_equal(ops.conv(squares, filters.finite_difference()).ravel(), [1, 3, 5, 7])
    image = np.broadcast_to(squares[..., None], (1, 5, 4, 1))
    along_rows = ops.conv(image, filters.finite_difference()[None])
    assert_array_equal(along_rows, np.zeros((1, 5, 3, 1)))


def test_repeated_for_several_channels_each_filter_stays_with_its_channel() -> None:
    x = numbers(np.random.default_rng(0), (1, 5, 5, 3))
    y = ops.depthwise_conv(x, jnp.tile(filters.sobel(), 3))
    for channel in range(3):
        alone = ops.depthwise_conv(x[..., channel, None], filters.sobel())
        assert_array_equal(y[..., 2 * channel : 2 * channel + 2], alone)


def test_edges_of_a_flat_image_are_zero() -> None:
    flat = np.full((1, 5, 5, 1), 7, np.float32)
    assert_allclose(ops.depthwise_conv(flat, filters.edges()), np.zeros((1, 3, 3, 1)), atol=1e-6)
