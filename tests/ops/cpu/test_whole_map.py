"""Convolution with a window as large as the map, by its matrix."""

from __future__ import annotations

from functools import partial

from hypothesis import given

from cnn.ops.cpu.whole_map import whole_map
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, lax_conv, spec_of
from tests.ops.strategies import Case, cases


@few_examples
@given(case=cases(modes=["zeros"]))
def test_any_window(case: Case) -> None:
    """Windows of all sizes, not only those for which this is chosen."""
    case = case._replace(groups=1)
    implementation = partial(whole_map, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case), case.x(), case.kernel())


@few_examples
@given(case=cases(modes=["zeros"]))
def test_windows_that_reach_beyond_the_map(case: Case) -> None:
    size, strides = case.windows.size, case.windows.strides
    reach = tuple(n - 1 for n in size)
    windows = case.windows._replace(
        window=tuple(2 * n - 1 for n in size),
        before=reach,
        after=reach,
        dilation=(1,) * len(size),
        strides=strides,
    )
    case = case._replace(groups=1, windows=windows)
    implementation = partial(whole_map, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case), case.x(), case.kernel())
