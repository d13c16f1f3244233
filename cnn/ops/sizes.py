"""How large a map becomes under windows, and how large it was."""

from __future__ import annotations

from collections.abc import Sequence
from typing import overload

from cnn.errors import InputError
from cnn.ops.window import Padding, Size, dilated, per_axis, resolve_padding, window_spec


@overload
def output_size(
    size: int, window: int, strides: int = 1, padding: Padding = "VALID", dilation: int = 1
) -> int: ...
@overload
def output_size(
    size: Sequence[int],
    window: Size,
    strides: Size = 1,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> tuple[int, ...]: ...
def output_size(
    size: Size,
    window: Size,
    strides: Size = 1,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> int | tuple[int, ...]:
    """Return how many windows fit: ⌊(n + lo + hi − d) / stride⌋ + 1.

    An int for an int, a tuple for one size per axis. Raises `InputError` as `place` does.

    >>> output_size(32, 6, strides=2), output_size((240, 240), 5, padding="SAME")
    (14, (240, 240))
    """
    if isinstance(size, Sequence):
        return window_spec(size, window, strides, padding, dilation).out
    return window_spec((size,), window, strides, padding, dilation).out[0]


@overload
def input_size(
    out: int, window: int, strides: int = 1, padding: Padding = "VALID", dilation: int = 1
) -> int: ...
@overload
def input_size(
    out: Sequence[int],
    window: Size,
    strides: Size = 1,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> tuple[int, ...]: ...
def input_size(
    out: Size,
    window: Size,
    strides: Size = 1,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> int | tuple[int, ...]:
    """Return the smallest size on which `out` windows fit: (out − 1) · stride + d − lo − hi.

    For `"SAME"` and `"SAME_LOWER"`, whose padding follows from the size, that is
    (out − 1) · stride + 1. Up to stride − 1 positions more give the same output.
    Raises `InputError` if there is no such size of at least 1.
    """
    if not isinstance(out, Sequence):
        return input_size((out,), window, strides, padding, dilation)[0]
    rank = len(out)
    out = per_axis(out, rank, "out")
    steps = [(p - 1) * s for p, s in zip(out, per_axis(strides, rank, "strides"), strict=True)]
    if padding in ("SAME", "SAME_LOWER"):
        return tuple(step + 1 for step in steps)
    pairs = resolve_padding(padding, out, window, strides, dilation)
    spans = dilated(per_axis(window, rank, "window"), per_axis(dilation, rank, "dilation"))
    size = tuple(
        max(step + d - lo - hi, 1) for step, d, (lo, hi) in zip(steps, spans, pairs, strict=True)
    )
    if output_size(size, window, strides, padding, dilation) != out:
        raise InputError(f"no input has output size {out} with padding {padding!r}: pad less")
    return size
