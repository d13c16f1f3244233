"""Strided convolution by one of stride 1 over blocks of positions."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax import Array
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.ops.cpu.strided import strided
from cnn.ops.cpu.toeplitz import local_toeplitz
from cnn.ops.implementations import use
from cnn.ops.lax_conv import lax_conv
from tests.ops import strategies
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, spec_of
from tests.ops.strategies import Case, cases


def unit_stride(x: Array, kernel: Array, spec: ops.WindowSpec) -> Array:
    assert set(spec.strides + spec.dilation) == {1}
    return lax_conv(spec)(x, kernel)


@few_examples
@given(case=cases(modes=["zeros"]))
def test_convolution(case: Case) -> None:
    case, spec = case._replace(groups=1), spec_of(case)
    spec = spec._replace(dilation=(1,) * len(spec.window))
    implementation = partial(strided, spec=spec, convolve=unit_stride)
    assert_same_derivatives(implementation, lax_conv(spec), case.x(), case.kernel())


@few_examples
@given(case=cases(modes=["zeros"]))
def test_locally_connected(case: Case) -> None:
    case, spec = case._replace(groups=1), spec_of(case)
    spec = spec._replace(dilation=(1,) * len(spec.window))

    def definition(x: Array, kernel: Array) -> Array:
        with use("reference"):
            return ops.conv_local(x, kernel, strides=spec.strides, padding=spec.pairs)

    implementation = partial(strided, spec=spec, convolve=local_toeplitz)
    assert_same_derivatives(implementation, definition, case.x(), case.kernel(*spec.out))


@pytest.mark.parametrize(
    ("window", "stride", "blocks"), [(4, 4, 1), (3, 4, 1), (7, 2, 4), (11, 4, 3)]
)
def test_windows_cover_blocks(window: int, stride: int, blocks: int) -> None:
    """By hand: ⌈k / s⌉ blocks, whose channels are 3 of each of the s positions."""
    rng = np.random.default_rng(0)
    x, kernel = (strategies.numbers(rng, shape) for shape in ((2, 45, 3), (window, 3, 5)))
    spec = ops.window_spec((45,), window, stride, window // 2)
    seen = []

    def convolve(x: Array, kernel: Array, spec: ops.WindowSpec) -> Array:
        seen.append(kernel.shape)
        return unit_stride(x, kernel, spec)

    found = strided(jnp.asarray(x), jnp.asarray(kernel), spec, convolve)
    assert seen == [(blocks, 3 * stride, 5)]
    assert_array_equal(found, lax_conv(spec)(x, kernel))
