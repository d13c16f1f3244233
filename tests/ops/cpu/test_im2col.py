"""Convolution by one matrix product with all windows."""

from __future__ import annotations

from functools import partial

from hypothesis import given

from cnn.ops.cpu.im2col import im2col
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, lax_conv, spec_of
from tests.ops.strategies import Case, cases


@few_examples
@given(case=cases(modes=["zeros"]))
def test_convolution(case: Case) -> None:
    case = case._replace(groups=1)
    implementation = partial(im2col, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case), case.x(), case.kernel())
