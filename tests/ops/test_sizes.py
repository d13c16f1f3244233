"""Sizes and padding: examples by hand, and counted windows."""

from __future__ import annotations

import doctest

import pytest
from hypothesis import given

from cnn import ops
from cnn.errors import InputError
from cnn.ops import sizes
from tests.ops.strategies import Case, cases


def test_the_examples_in_the_documentation() -> None:
    results = doctest.testmod(sizes)
    assert results.attempted > 0
    assert results.failed == 0


@pytest.mark.parametrize(
    ("size", "window", "strides", "padding", "dilation", "expected"),
    [
        (32, 6, 2, "VALID", 1, 14),
        (7, 3, 2, "VALID", 1, 3),
        (7, 3, 1, "FULL", 1, 9),
        (7, 3, 1, "VALID", 2, 3),
        (7, 4, 3, "SAME", 2, 3),
        (7, 3, 2, 1, 1, 4),
        ((5, 6), 3, (1, 2), (1, (0, 2)), 1, (5, 3)),
    ],
)
def test_output_size_by_hand(
    size: ops.Size,
    window: ops.Size,
    strides: ops.Size,
    padding: ops.Padding,
    dilation: ops.Size,
    expected: ops.Size,
) -> None:
    assert ops.output_size(size, window, strides, padding, dilation) == expected


def test_the_odd_cell_of_same_padding_is_after_and_of_same_lower_before() -> None:
    assert ops.resolve_padding("SAME", (5, 6), (4, 3), (1, 2)) == ((1, 2), (0, 1))
    assert ops.resolve_padding("SAME_LOWER", (5, 6), (4, 3), (1, 2)) == ((2, 1), (1, 0))


def test_padding_like_that_of_another_window() -> None:
    """Size 8, stride 2: "SAME" pads 3 taps by (0, 1), so the centres are 1, 3, 5, 7."""
    assert ops.resolve_padding(("SAME", 3, 2), (8,), (3,), 2) == ((0, 1),)
    assert ops.resolve_padding(("SAME", 3, 2), (8,), (1,), 2) == ((-1, 0),)
    assert ops.resolve_padding(("SAME", 3, 2), (8,), (3,), 2, 2) == ((1, 2),)
    assert ops.resolve_padding(("SAME", 3, 2), (8,), (3,), 1) == ((0, 1),)
    assert ops.resolve_padding(("SAME_LOWER", (3,), (2,)), (8,), (5,), 2) == ((2, 1),)
    assert ops.output_size(8, 5, 2, ("SAME", 3, 2)) == 4
    assert ops.input_size(4, 5, 2, ("SAME", 3, 2)) == 7


@given(case=cases())
def test_sizes_and_padding_are_those_of_the_counted_windows(case: Case) -> None:
    """`input_size` is the smallest size with this output: all smaller ones are tried."""
    windows, options = case.windows, case.options
    pairs = tuple(zip(windows.before, windows.after, strict=True))
    assert ops.resolve_padding(window=windows.window, size=windows.size, **options) == pairs
    assert ops.output_size(windows.size, windows.window, **options) == windows.out

    def has_this_output(size: tuple[int, ...]) -> bool:
        try:
            return ops.output_size(size, windows.window, **options) == windows.out
        except InputError:
            return False

    smallest = ops.input_size(windows.out, windows.window, **options)
    assert has_this_output(smallest)
    for axis, n in enumerate(smallest):
        for fewer in range(1, n):
            assert not has_this_output((*smallest[:axis], fewer, *smallest[axis + 1 :]))
