"""Output size from input size, and input size from output size."""

from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from cnn.errors import InputError
from cnn.ops.window import Padding, Size, dilated, per_axis, resolve_padding, window_spec

OneOrAll = TypeVar("OneOrAll", int, tuple[int, ...])
"""The size of a single axis, or one size per axis."""


def output_size(
    size: OneOrAll, window: Size, strides: Size = 1, padding: Padding = "VALID", dilation: Size = 1
) -> OneOrAll:
    """Return the number of windows, ⌊(n + lo + hi − d) / stride⌋ + 1, per axis.

    >>> output_size(32, 6, strides=2), output_size((240, 240), 5, padding="SAME")
    (14, (240, 240))
    """
    if isinstance(size, int | np.integer):
        return window_spec((size,), window, strides, padding, dilation).out[0]
    return window_spec(size, window, strides, padding, dilation).out


def input_size(
    out: OneOrAll, window: Size, strides: Size = 1, padding: Padding = "VALID", dilation: Size = 1
) -> OneOrAll:
    """Return the smallest input size with `out` windows: (out − 1) · stride + d − lo − hi.

    For "SAME" and "SAME_LOWER", whose padding depends on the size, it is (out − 1) · stride + 1.
    Up to stride − 1 more positions give the same output.
    """
    if isinstance(out, int | np.integer):
        return input_size((out,), window, strides, padding, dilation)[0]
    rank = len(out)
    out = per_axis(out, rank, "out")
    steps = [(p - 1) * s for p, s in zip(out, per_axis(strides, rank, "strides"), strict=True)]
    if padding in ("SAME", "SAME_LOWER"):
        return tuple(step + 1 for step in steps)
    if isinstance(padding, Sequence) and padding[0] in ("SAME", "SAME_LOWER"):
        size = tuple(step + 1 for step in steps)
    else:
        pairs = resolve_padding(padding, out, window, strides, dilation)
        spans = dilated(per_axis(window, rank, "window"), per_axis(dilation, rank, "dilation"))
        size = tuple(
            max(step + d - lo - hi, 1)
            for step, d, (lo, hi) in zip(steps, spans, pairs, strict=True)
        )
    if output_size(size, window, strides, padding, dilation) != out:
        raise InputError(
            f"padding must be such that some input has output size {out}, got {padding!r}: pad less"
        )
    return size
