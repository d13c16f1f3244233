"""Convolution of few channels in blocks of outputs."""

from __future__ import annotations

import doctest
from functools import partial

from hypothesis import given

from cnn import ops
from cnn.ops.cpu import toeplitz
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, lax_conv, spec_of
from tests.ops.strategies import Case, cases


def one_group_and_unit_steps(case: Case) -> Case:
    one = (1,) * len(case.windows.size)
    return case._replace(groups=1, windows=case.windows._replace(strides=one, dilation=one))


@few_examples
@given(case=cases(modes=["zeros"]))
def test_convolution_with_few_channels(case: Case) -> None:
    case = one_group_and_unit_steps(case)
    implementation = partial(toeplitz.toeplitz, spec=spec_of(case))
    assert_same_derivatives(implementation, lax_conv(case), case.x(), case.kernel())


@few_examples
@given(case=cases(modes=["zeros"]))
def test_local_convolution_with_few_channels(case: Case) -> None:
    case = one_group_and_unit_steps(case)
    spec = spec_of(case)
    implementation = partial(toeplitz.local_toeplitz, spec=spec)
    definition = partial(ops.conv_tiled, padding=spec.pairs)
    assert_same_derivatives(implementation, definition, case.x(), case.kernel(*spec.out))


def test_the_examples_in_the_documentation() -> None:
    results = doctest.testmod(toeplitz)
    assert results.attempted > 0
    assert results.failed == 0
