"""Depthwise convolution by shifted products."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.ops.cpu.depthwise import depthwise
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, lax_conv, spec_of
from tests.ops.strategies import Case, cases, numbers


@few_examples
@given(case=cases(modes=["zeros"]))
def test_depthwise_convolution(case: Case) -> None:
    kernel = numbers(case.rng, (*case.windows.window, 1, case.c_in))
    implementation = partial(depthwise, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case, case.c_in), case.x(), kernel)


@pytest.mark.parametrize("batch", [1, 7, 8, 12])
def test_kernel_gradients_are_sums_over_all_parts_of_a_batch(batch: int) -> None:
    """1, 7, 8 and 6 parts."""
    x, g = numbers(np.random.default_rng(0), (2, batch, 5, 3))
    spec = ops.window_spec((5,), 1)
    slope = jax.jit(jax.grad(lambda w: jnp.vdot(depthwise(x, w, spec), g)))(jnp.ones((1, 1, 3)))
    assert_array_equal(slope[0, 0], (x * g).sum((0, 1)))


@pytest.mark.parametrize("count", [1, 63, 64, 65, 127, 131, 1000])
def test_kernel_gradients_are_sums_over_all_rows(count: int) -> None:
    x, g = numbers(np.random.default_rng(0), (2, 1, count, 3))
    spec = ops.window_spec((count,), 1)
    kernel = jnp.ones((1, 1, 3))
    slope = jax.jit(jax.grad(lambda w: jnp.vdot(depthwise(x, w, spec), g)))(kernel)
    assert_array_equal(slope[0, 0], (x * g).sum((0, 1)))
