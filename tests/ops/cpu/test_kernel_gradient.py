"""Kernel gradients by matrix products."""

from __future__ import annotations

from functools import partial

from hypothesis import given

from cnn.ops.cpu.kernel_gradient import conv_with_kernel_gradient
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, lax_conv, spec_of
from tests.ops.strategies import Case, cases


@few_examples
@given(case=cases(modes=["zeros"]))
def test_kernel_gradients_by_taps(case: Case) -> None:
    case = case._replace(groups=1)
    implementation = partial(conv_with_kernel_gradient, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case), case.x(), case.kernel())
