"""Where windows stand, with no array in sight.

On every spatial axis, output position p looks through a window of k taps at the input positions

    i = p · stride + a · dilation − lo,    a = 0 … k − 1,    p = 0 … out − 1,

`lo` and `hi` positions being added before and after the n that are there. A dilated window spans
d = (k − 1) · dilation + 1 positions, and fits out = ⌊(n + lo + hi − d) / stride⌋ + 1 times.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cnn.errors import InputError, unknown_name

Size = int | Sequence[int]
"""One int for every spatial axis, or one int per axis."""

Pairs = tuple[tuple[int, int], ...]
"""Positions added before and after, per spatial axis."""

Padding = Literal["VALID", "SAME", "SAME_LOWER", "FULL"] | int | Sequence[int | tuple[int, int]]
"""Where windows may stand.

- `"VALID"`: inside the input only.
- `"SAME"`: ⌈n / stride⌉ outputs, the odd cell of padding after (XLA, TensorFlow).
- `"SAME_LOWER"`: the same with the odd cell before (the textbooks' ⌈p / 2⌉ on top).
- `"FULL"`: wherever they touch the input (d − 1 on both sides).
- an int for all sides of all axes, or a sequence with one int, or one pair (before, after), per
  axis. For one axis a pair is written `((1, 2),)`. A negative number in a pair takes cells away.
"""


class WindowSpec(NamedTuple):
    """Windows placed on a map, everything said per spatial axis."""

    size: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pairs: Pairs
    dilation: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """How many windows fit."""
        spans = dilated(self.window, self.dilation)
        return tuple(
            (n + lo + hi - d) // s + 1
            for n, (lo, hi), d, s in zip(self.size, self.pairs, spans, self.strides, strict=True)
        )


def window_spec(
    size: Sequence[int],
    window: Size,
    strides: Size = 1,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> WindowSpec:
    """Place windows on a map of `size`.

    Raises `InputError` if an argument is not one positive int (or one per axis), or if the dilated
    window exceeds the padded size; axes are numbered as in `(batch, *spatial, channels)`, from 1.
    """
    rank = len(size)
    window = per_axis(window, rank, "window")
    strides = per_axis(strides, rank, "strides")
    dilation = per_axis(dilation, rank, "dilation")
    pairs = resolve_padding(padding, size, window, strides, dilation)
    spans = dilated(window, dilation)
    for axis, (n, (lo, hi), k, d) in enumerate(zip(size, pairs, window, spans, strict=True), 1):
        if d > n + lo + hi:
            what = f"window {k}" if d == k else f"window {k} (dilated to {d})"
            raise InputError(
                f"{what} exceeds padded size {n + lo + hi} on axis {axis}: "
                "make the window smaller, or the input or padding larger"
            )
    return WindowSpec(tuple(size), window, strides, pairs, dilation)


def dilated(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return how many positions a dilated window spans: (k − 1) · dilation + 1."""
    return tuple((k - 1) * r + 1 for k, r in zip(window, dilation, strict=True))


def per_axis(value: Size, rank: int, name: str, least: float = 1) -> tuple[int, ...]:
    """Return `value` as one int for each of `rank` spatial axes.

    Raises `InputError` calling it `name` if it is not an int or `rank` ints, all at least `least`.
    """
    try:
        if isinstance(value, Sequence):
            values = tuple(operator.index(v) for v in value)
        else:
            values = (operator.index(value),) * rank
    except TypeError:
        raise InputError(f"{name} {value!r} is not an int or one int per spatial axis") from None
    if len(values) != rank:
        raise InputError(
            f"{name} {value!r} has {len(values)} entries for {rank} spatial axes: "
            "give one int, or one per axis"
        )
    if any(v < least for v in values):
        raise InputError(f"{name} {value!r} is too small: give at least {least}")
    return values


def resolve_padding(
    padding: Padding,
    size: Sequence[int],
    window: Size,
    strides: Size = 1,
    dilation: Size = 1,
) -> Pairs:
    """Return the cells that `padding` adds (before, after) on each axis of a map of `size`."""
    rank = len(size)
    strides = per_axis(strides, rank, "strides")
    window = per_axis(window, rank, "window")
    spans = dilated(window, per_axis(dilation, rank, "dilation"))
    match padding:
        case "VALID":
            return ((0, 0),) * rank
        case "FULL":
            return tuple((d - 1, d - 1) for d in spans)
        case "SAME" | "SAME_LOWER":
            totals = [
                max((-(-n // s) - 1) * s + d - n, 0)
                for n, d, s in zip(size, spans, strides, strict=True)
            ]
            before = [p // 2 if padding == "SAME" else p - p // 2 for p in totals]
            return tuple((b, p - b) for b, p in zip(before, totals, strict=True))
        case str():
            raise unknown_name("padding", padding, ["VALID", "SAME", "SAME_LOWER", "FULL"])
    if not isinstance(padding, Sequence):
        return tuple((p, p) for p in per_axis(padding, rank, "padding", least=0))
    if len(padding) != rank:
        raise InputError(
            f"padding {padding!r} has {len(padding)} entries for {rank} spatial axes: "
            "give one int or pair per axis"
        )
    sides = [p if isinstance(p, Sequence) else (p, p) for p in padding]
    if any(len(pair) != 2 for pair in sides):
        raise InputError(f"padding {padding!r} is not one int or pair (before, after) per axis")
    los, his = (per_axis(side, rank, "padding", -math.inf) for side in zip(*sides, strict=True))
    return tuple(zip(los, his, strict=True))
