"""A convolution as a dense layer: examples by hand, and the equation as loops."""

from __future__ import annotations

import math

import jax
import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cnn import ops
from tests.ops import loops
from tests.ops.strategies import Case, cases, numbers


def test_a_signal_and_a_kernel_of_two_taps_by_hand() -> None:
    kernel = np.array([2, 3], np.float32)[:, None, None]
    matrix = ops.conv_matrix(kernel, (4, 1)).reshape(4, 3)
    assert_array_equal(matrix, [[2, 0, 0], [3, 2, 0], [0, 3, 2], [0, 0, 3]])
    circulant = ops.conv_matrix(kernel, (4, 1), padding=((0, 1),), padding_mode="circular")
    assert_array_equal(
        circulant.reshape(4, 4), [[2, 0, 0, 3], [3, 2, 0, 0], [0, 3, 2, 0], [0, 0, 3, 2]]
    )


def test_it_is_local_and_depends_on_the_difference_alone() -> None:
    """The two principles that make a dense layer a convolution, in W[i, j] = V[i, j − i]."""
    rng = np.random.default_rng(0)
    kernel = numbers(rng, (3, 3, 1, 1)) + 5  # nowhere zero
    matrix = np.asarray(ops.conv_matrix(kernel, (6, 7, 1), padding="SAME"))[:, :, 0, :, :, 0]
    for i, j, p, q in np.ndindex(matrix.shape):
        a, b = i - p + 1, j - q + 1
        expected = kernel[a, b, 0, 0] if 0 <= a < 3 and 0 <= b < 3 else 0
        assert matrix[i, j, p, q] == expected


@given(case=cases(), shared=st.booleans())
def test_the_linear_layer_of_the_matrix_is_the_convolution(case: Case, shared: bool) -> None:
    x, kernel = case.x(), case.kernel(*(() if shared else case.windows.out))
    matrix = jax.jit(lambda kernel: ops.conv_matrix(kernel, x.shape[1:], **case.arguments))(kernel)
    expected = loops.conv(
        x, lambda p: kernel if shared else kernel[p], case.windows, case.mode, case.groups
    )
    assert matrix.shape == x.shape[1:] + expected.shape[1:]
    flat = x.reshape(len(x), -1) @ np.asarray(matrix).reshape(math.prod(x.shape[1:]), -1)
    assert_array_equal(flat.reshape(expected.shape), expected)


def test_it_is_a_kernel_of_dense_spatial() -> None:
    rng = np.random.default_rng(0)
    x, kernel = numbers(rng, (2, 4, 5, 2)), numbers(rng, (3, 2, 2, 3))
    options = {"strides": (1, 2), "padding": "FULL", "padding_mode": "reflect"}
    matrix = ops.conv_matrix(kernel, x.shape[1:], **options)
    assert_array_equal(ops.dense_spatial(x, matrix), ops.conv(x, kernel, **options))
