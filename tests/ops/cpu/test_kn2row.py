"""Convolution by one product for all taps, whose results are shifted."""

from __future__ import annotations

from functools import partial

import jax
import numpy as np
from hypothesis import given
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.ops.cpu.kn2row import kn2row
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, lax_conv, spec_of
from tests.ops.strategies import Case, cases


@few_examples
@given(case=cases(modes=["zeros"]))
def test_convolution(case: Case) -> None:
    case = case._replace(groups=1)
    implementation = partial(kn2row, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case), case.x(), case.kernel())


def test_padding_beyond_the_window() -> None:
    """By hand: two taps, a pair of zeros before and three behind; the ends see zeros alone."""
    spec = ops.window_spec((2,), 2, padding=((2, 3),))
    x, kernel = np.array([[[1.0], [2.0]]], np.float32), np.array([[[3.0]], [[5.0]]], np.float32)
    assert_array_equal(kn2row(x, kernel, spec)[0, :, 0], [0, 5, 13, 6, 0, 0])


def test_outputs_between_strides_are_not_summed() -> None:
    """By hand: two taps at every third position, from one before the input on."""
    spec = ops.window_spec((5,), 2, strides=3, padding=((1, 0),))
    x = np.arange(1, 6, dtype=np.float32)[None, :, None]
    kernel = np.array([[[3.0]], [[5.0]]], np.float32)
    assert_array_equal(kn2row(x, kernel, spec)[0, :, 0], [5, 9 + 20])


def test_no_examples() -> None:
    spec = ops.window_spec((8, 8), 3, padding=1)
    x, kernel = np.ones((0, 8, 8, 5), np.float32), np.ones((3, 3, 5, 2), np.float32)
    assert kn2row(x, kernel, spec).shape == (0, 8, 8, 2)
    gradient = jax.grad(lambda w: kn2row(x, w, spec).sum())(kernel)
    assert_array_equal(gradient, np.zeros_like(kernel))


def test_the_gradient_copies_outputs_and_not_windows() -> None:
    """The gradients hold z̄, of 3·3·2 numbers for each of 8·8 positions, in one concatenation."""
    spec = ops.window_spec((8, 8), 3, padding=1)
    arrays = np.ones((1, 8, 8, 5), np.float32), np.ones((3, 3, 5, 2), np.float32)
    gradients = jax.grad(lambda x, w: (kn2row(x, w, spec) ** 2).sum(), (0, 1))
    program = str(jax.make_jaxpr(gradients)(*arrays))
    assert program.count("concatenate[") == 1
    assert "f32[1,8,8,18]" in program
    assert "f32[1,8,8,45]" not in program
