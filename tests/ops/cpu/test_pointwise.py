"""1×1 convolution by one matrix product."""

from __future__ import annotations

from functools import partial

from hypothesis import assume, given

from cnn.ops.cpu.pointwise import pointwise
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, lax_conv, spec_of
from tests.ops.strategies import Case, cases


@few_examples
@given(case=cases(modes=["zeros"]))
def test_convolution_with_one_tap(case: Case) -> None:
    windows = case.windows._replace(window=(1,) * len(case.windows.size))
    case = case._replace(groups=1, windows=windows)
    sizes = zip(windows.size, windows.before, windows.after, strict=True)
    assume(min(map(sum, sizes)) > 0)
    implementation = partial(pointwise, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case), case.x(), case.kernel())
