"""Hypothesis strategies: small windows, and arrays of small whole numbers.

Sums of products of small whole numbers are exact in float32, so results compare exactly.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from hypothesis import strategies as st

from tests.ops.loops import Windows

MODES = ["zeros", "reflect", "replicate", "circular"]


class Case(NamedTuple):
    """Windows for the loops, and the same as `options`, keyword arguments of `cnn.ops`."""

    windows: Windows
    options: dict[str, Any]
    mode: str
    groups: int
    c_in: int
    c_out: int
    rng: np.random.Generator

    @property
    def arguments(self) -> dict[str, Any]:
        return {**self.options, "padding_mode": self.mode, "groups": self.groups}

    def x(self) -> np.ndarray:
        return numbers(self.rng, (2, *self.windows.size, self.c_in))

    def kernel(self, *positions: int) -> np.ndarray:
        channels = (self.c_in // self.groups, self.c_out)
        return numbers(self.rng, (*positions, *self.windows.window, *channels))

    def bias(self, *positions: int) -> np.ndarray:
        return numbers(self.rng, (*positions, self.c_out))


def numbers(rng: np.random.Generator, shape: tuple[int, ...]) -> np.ndarray:
    return rng.integers(-4, 5, shape).astype(np.float32)


@st.composite
def cases(draw: st.DrawFn, modes: list[str] = MODES) -> Case:
    """Draw axes, window, strides, dilation, padding, mode, groups, and a size on which they fit."""
    rank = draw(st.integers(1, 3))

    def per_axis(most: int, least: int = 1) -> tuple[Any, tuple[int, ...]]:
        one = st.integers(least, most)
        value = draw(one | st.tuples(*[one] * rank))
        return value, value if isinstance(value, tuple) else (value,) * rank

    _, window = per_axis(5 - rank)
    strides, each_stride = per_axis(3)
    dilation, each_dilation = per_axis(2)
    spans = [(k - 1) * r + 1 for k, r in zip(window, each_dilation, strict=True)]
    mode = draw(st.sampled_from(modes))
    pair = st.tuples(st.integers(-1, 2), st.integers(-1, 2))
    padding = draw(
        st.sampled_from(["VALID", "SAME", "SAME_LOWER", "FULL"])
        | st.integers(0, 2)
        | st.tuples(*[st.integers(0, 2) | pair] * rank)
    )
    size, before, after = [], [], []
    for axis, (d, s) in enumerate(zip(spans, each_stride, strict=True)):
        lo, hi = _sides(padding, axis, d, s, None)
        wide = max(lo, hi)
        needed = {"zeros": 1, "replicate": 1, "circular": wide, "reflect": wide + 1}[mode]
        n = max(1, d - lo - hi, needed) + draw(st.integers(0, 4 - rank))
        lo, hi = _sides(padding, axis, d, s, n)
        size.append(n), before.append(lo), after.append(hi)
    windows = Windows(tuple(size), window, each_stride, tuple(before), tuple(after), each_dilation)
    groups = draw(st.integers(1, 2))
    return Case(
        windows,
        {"strides": strides, "padding": padding, "dilation": dilation},
        mode,
        groups,
        groups * draw(st.integers(1, 2)),
        groups * draw(st.integers(1, 2)),
        np.random.default_rng(draw(st.integers(0, 9))),
    )


def _sides(padding: Any, axis: int, span: int, stride: int, n: int | None) -> tuple[int, int]:
    """Return the padding on both sides; for SAME on an unknown size, the most it can be."""
    match padding:
        case "VALID":
            return 0, 0
        case "FULL":
            return span - 1, span - 1
        case "SAME" | "SAME_LOWER":
            if n is None:
                return span // 2, span // 2
            total, wanted = 0, len(range(0, n, stride))
            while n + total < span or len(range(0, n + total - span + 1, stride)) < wanted:
                total += 1
            odd_after = padding == "SAME"
            return (total + (not odd_after)) // 2, (total + odd_after) // 2
    side = padding[axis] if isinstance(padding, tuple) else padding
    return side if isinstance(side, tuple) else (side, side)
