"""The input values that each window covers."""

from __future__ import annotations

import numpy as np
from numpy.testing import assert_array_equal

from cnn import ops


def test_patches_are_what_the_windows_see() -> None:
    x = np.arange(24, dtype=np.float32).reshape(1, 3, 4, 2)
    seen = ops.patches(x, (2, 2), strides=(1, 2), padding=((0, 0), (0, 1)), padding_mode="circular")
    assert seen.shape == (1, 2, 2, 2, 2, 2)
    assert_array_equal(seen[0, 1, 1], x[0, 1:, 2:])
    strided = ops.patches(x, 2, strides=2, dilation=(2, 3), padding=((0, 0), (0, 3)))
    assert_array_equal(strided[0, 0, 1, :, 0], x[0, ::2, 2])
    assert_array_equal(strided[0, 0, 1, :, 1], np.zeros((2, 2)))


def test_patches_of_a_large_window_are_what_numpy_sees() -> None:
    """A window of 17 × 18 taps, more than are taken one by one."""
    x = np.random.default_rng(0).standard_normal((2, 40, 41, 3)).astype(np.float32)
    options = {"strides": (2, 3), "dilation": (1, 2)}
    seen = np.lib.stride_tricks.sliding_window_view(x, (17, 35), (1, 2))[:, ::2, ::3, :, :, ::2]
    assert_array_equal(ops.patches(x, (17, 18), **options), np.moveaxis(seen, 3, -1))
    largest = ops.max_pool(x, (17, 18), **options)
    assert_array_equal(largest, seen.max((-2, -1)))
