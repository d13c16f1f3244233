"""Convolution of volumes by convolutions of images."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest
from hypothesis import assume, given
from jax import Array

from cnn import ops
from cnn.ops.cpu.volumes import volumes
from cnn.ops.lax_conv import lax_conv
from tests.ops import strategies
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, spec_of
from tests.ops.strategies import Case, cases


def of_images(x: Array, kernel: Array, spec: ops.WindowSpec) -> Array:
    return lax_conv(spec)(x, kernel)


@few_examples
@given(case=cases(modes=["zeros"]))
def test_convolution(case: Case) -> None:
    """Also of images by convolutions of signals."""
    case = case._replace(groups=1)
    spec = spec_of(case)
    assume(len(spec.window) > 1)
    implementation = partial(volumes, spec=spec, convolve=of_images)
    assert_same_derivatives(implementation, lax_conv(spec), case.x(), case.kernel())


@pytest.mark.parametrize(("stride", "dilation"), [(1, 2), (2, 1)])
def test_every_tap_of_the_first_axis_is_a_convolution(stride: int, dilation: int) -> None:
    rng = np.random.default_rng(0)
    x, kernel = (strategies.numbers(rng, s) for s in ((2, 7, 6, 5, 3), (3, 2, 3, 3, 4)))
    spec = ops.window_spec((7, 6, 5), (3, 2, 3), stride, ((1, 1), (0, 0), (-1, 2)), dilation)
    seen = []

    def convolve(x: Array, kernel: Array, spec: ops.WindowSpec) -> Array:
        seen.append((len(x), spec.size, spec.window, spec.pairs))
        return of_images(x, kernel, spec)

    found = volumes(x, kernel, spec, convolve)
    assert seen == [(2 * spec.out[0], (6, 5), (2, 3), ((0, 0), (-1, 2)))] * 3
    np.testing.assert_array_equal(found, lax_conv(spec)(x, kernel))
