"""The positions of windows on an input: sizes, strides, padding and dilation, without arrays.

On every spatial axis, the window of k taps at output position p covers the input positions

    i = p · stride + a · dilation − lo,    a = 0 … k − 1,    p = 0 … out − 1

where padding adds `lo` positions before and `hi` after the n of the input. A dilated window spans
d = (k − 1) · dilation + 1 positions, and there are out = ⌊(n + lo + hi − d) / stride⌋ + 1 windows.
"""

from __future__ import annotations

import math
import numbers
import operator
from collections.abc import Sequence
from typing import Literal, NamedTuple

from cnn.errors import InputError, unknown_name

Size = int | Sequence[int]
"""One int for every spatial axis, or one int per axis."""

Pairs = tuple[tuple[int, int], ...]
"""The padding (before, after) of each spatial axis. Negative numbers remove positions."""

Padding = (
    Literal["VALID", "SAME", "SAME_LOWER", "FULL"]
    | int
    | Sequence[int | tuple[int, int]]
    | tuple[Literal["SAME", "SAME_LOWER"], Size, Size]
)
"""Where windows may be.

- `"VALID"`: inside the input only.
- `"SAME"`: ⌈n / stride⌉ outputs; if the padding is odd, one more after (as XLA and TensorFlow).
- `"SAME_LOWER"`: ⌈n / stride⌉ outputs; if the padding is odd, one more before (as textbooks, with
  ⌈p / 2⌉ on top).
- `"FULL"`: wherever they overlap the input, with d − 1 on both sides.
- An int for all sides of all axes, or a sequence with one int, or one pair (before, after), per
  axis. A pair for a single axis is `((1, 2),)`. A negative number in a pair removes positions.
- `("SAME", d, s)`: centred where windows of d positions at stride s are with "SAME", on every size.
"""


MAX_SIZE, MAX_POSITIONS = 2**31 - 1, 2**40
"""The most positions of one axis, and of a map. No device holds more, and XLA ends the process."""


class WindowSpec(NamedTuple):
    """The windows on an input; each field has one entry per spatial axis."""

    size: tuple[int, ...]
    window: tuple[int, ...]
    strides: tuple[int, ...]
    pairs: Pairs
    dilation: tuple[int, ...]

    @property
    def out(self) -> tuple[int, ...]:
        """The number of windows."""
        spans = dilated(self.window, self.dilation)
        return tuple(
            (n + lo + hi - d) // s + 1
            for n, (lo, hi), d, s in zip(self.size, self.pairs, spans, self.strides, strict=True)
        )

    @property
    def is_padded(self) -> bool:
        """Whether there is padding."""
        return any(max(pair) > 0 for pair in self.pairs)

    @property
    def on_padded(self) -> WindowSpec:
        """The same windows on the padded input."""
        size = tuple(n + lo + hi for n, (lo, hi) in zip(self.size, self.pairs, strict=True))
        return self._replace(size=size, pairs=((0, 0),) * len(size))


def window_spec(
    size: Sequence[int],
    window: Size,
    strides: Size = 1,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> WindowSpec:
    """Return the windows on an input of `size`, which excludes batch and channels."""
    rank = len(size)
    window = per_axis(window, rank, "window")
    strides = per_axis(strides, rank, "strides")
    dilation = per_axis(dilation, rank, "dilation")
    pairs = resolve_padding(padding, size, window, strides, dilation)
    spans = dilated(window, dilation)
    for axis, (n, (lo, hi), k, d) in enumerate(zip(size, pairs, window, spans, strict=True), 1):
        if d > n + lo + hi:
            dilated_to = "" if d == k else f" (dilated to {d})"
            raise InputError(
                f"window must fit into the padded size {n + lo + hi} on axis {axis}, "
                f"got {k}{dilated_to}: use a smaller window, a larger input or more padding"
            )
    spec = WindowSpec(tuple(size), window, strides, pairs, dilation)
    check_positions("the padded size", spec.on_padded.size)
    return spec


def check_positions(name: str, size: Sequence[int]) -> None:
    """Raise `InputError` for a map of more positions than any device holds."""
    known = [n for n in size if isinstance(n, numbers.Integral)]  # others are symbols of an export
    if max(known, default=0) > MAX_SIZE or math.prod(known) > MAX_POSITIONS:
        raise InputError(
            f"{name} must have below 2^31 positions per axis and at most 2^40 in all, got "
            f"{tuple(size)}: use smaller windows or less padding"
        )


def dilated(window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return the size of a dilated window: (k − 1) · dilation + 1."""
    return tuple((k - 1) * r + 1 for k, r in zip(window, dilation, strict=True))


def per_axis(value: Size, rank: int, name: str, least: float = 1) -> tuple[int, ...]:
    """Return `value` as one int for each of `rank` spatial axes."""
    try:
        each = value if isinstance(value, Sequence) else (value,) * rank
        values = tuple(map(operator.index, each))
    except TypeError:
        values = ()
    if len(values) != rank:
        raise InputError(
            f"{name} must be an int, or one int for each of {rank} spatial axes, got {value!r}"
        )
    if any(v < least for v in values):
        raise InputError(f"{name} must be at least {least}, got {value!r}")
    if any(abs(v) > MAX_SIZE for v in values):
        raise InputError(f"{name} must be below 2^31, got {value!r}")
    return values


def resolve_padding(
    padding: Padding, size: Sequence[int], window: Size, strides: Size = 1, dilation: Size = 1
) -> Pairs:
    """Return the pair (before, after) that `padding` means on each axis of an input of `size`."""
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
        case [("SAME" | "SAME_LOWER") as rule, like, at]:
            like = per_axis(like, rank, "padding[1]")
            return recentre(resolve_padding(rule, size, like, at), like, spans)
        case str():
            raise unknown_name("padding", padding, ["VALID", "SAME", "SAME_LOWER", "FULL"])
    if not isinstance(padding, Sequence):
        return tuple((p, p) for p in per_axis(padding, rank, "padding", least=0))
    sides = [p if isinstance(p, Sequence) else (p, p) for p in padding]
    if len(sides) != rank or any(len(pair) != 2 for pair in sides):
        raise InputError(
            "padding must be an int, or one int or pair (before, after) for each of "
            f"{rank} spatial axes, got {padding!r}"
        )
    los, his = (per_axis(side, rank, "padding", -math.inf) for side in zip(*sides, strict=True))
    return tuple(zip(los, his, strict=True))


def recentre(pairs: Pairs, old: Sequence[int], new: Sequence[int]) -> Pairs:
    """Return the padding with which windows of another span have the same number and centres.

    Half of the difference goes before and the rest after, so the centre moves by half a position at
    most.
    """
    recentred = []
    for (lo, hi), d, other in zip(pairs, old, new, strict=True):
        before = (other - d) // 2 if other >= d else -((d - other) // 2)
        recentred.append((lo + before, hi + other - d - before))
    return tuple(recentred)


def channels_last(ndim: int) -> tuple[str, str, str]:
    """Return `lax`'s axis names of input, kernel and output for arrays with `ndim` axes."""
    spatial = "DHW"[5 - ndim :]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"
