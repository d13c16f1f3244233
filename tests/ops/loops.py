"""The equations of the lectures as loops: the reference for every operation.

It uses nothing from `cnn`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

Index = tuple[int, ...]


class Windows(NamedTuple):
    """Windows on an input; each field has one entry per spatial axis."""

    size: Index
    window: Index
    strides: Index
    before: Index
    after: Index
    dilation: Index

    @property
    def out(self) -> Index:
        """The number of starts from which the last tap is within the padded input."""
        counts = []
        for n, k, s, lo, hi, r in zip(*self, strict=True):
            starts = range(0, n + lo + hi, s)
            counts.append(sum(start + (k - 1) * r < n + lo + hi for start in starts))
        return tuple(counts)

    @property
    def all_see_input(self) -> bool:
        """Whether no window covers padding only."""
        taps = list(indices(self.window))
        return all(any(self.cell(p, a) for a in taps) for p in indices(self.out))

    def cell(self, p: Index, a: Index, mode: str = "zeros") -> Index | None:
        """Return the input position of tap `a` of the window at `p`, or None for a zero."""
        cells = []
        for n, _, s, lo, _, r, p_, a_ in zip(*self, p, a, strict=True):
            i = p_ * s + a_ * r - lo
            if not 0 <= i < n:
                if mode == "zeros":
                    return None
                first, last = {
                    "reflect": (-i, 2 * (n - 1) - i),
                    "replicate": (0, n - 1),
                    "circular": (i + n, i - n),
                }[mode]
                i = first if i < 0 else last
            cells.append(i)
        return tuple(cells)


def indices(size: Index) -> Iterator[Index]:
    return itertools.product(*map(range, size))


def conv(
    x: np.ndarray,
    kernel_at: Callable[[Index], np.ndarray],
    windows: Windows,
    mode: str = "zeros",
    groups: int = 1,
) -> np.ndarray:
    """y[b, p, o] = Σ_a Σ_c x[b, cell(p, a), c] · kernel_at(p)[a, c, o], c in the group of o."""
    c_in, c_out = kernel_at(tuple(0 for _ in windows.size)).shape[-2:]
    y = np.zeros((len(x), *windows.out, c_out))
    for p in indices(windows.out):
        kernel = kernel_at(p)
        for a in indices(windows.window):
            cell = windows.cell(p, a, mode)
            if cell is None:
                continue
            for o in range(c_out):
                first = o // (c_out // groups) * c_in
                for c in range(c_in):
                    y[:, *p, o] += x[:, *cell, first + c] * kernel[(*a, c, o)]
    return y


def pool(x: np.ndarray, windows: Windows, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """Reduce the input positions of each window, without padding."""
    y = np.zeros((len(x), *windows.out, x.shape[-1]))
    for p in indices(windows.out):
        cells = [cell for a in indices(windows.window) if (cell := windows.cell(p, a))]
        y[:, *p] = reduce([x[:, *cell] for cell in cells], axis=0)
    return y


def adaptive_pool(x: np.ndarray, out: Index, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """Cut n cells of width 1 into m bins of width n / m, and reduce the cells each bin overlaps."""
    y = np.zeros((len(x), *out, x.shape[-1]))
    for p in indices(out):
        cells = [
            cell
            for cell in indices(x.shape[1:-1])
            if all(
                j * m < (i + 1) * n and i * n < (j + 1) * m
                for i, j, n, m in zip(p, cell, x.shape[1:-1], out, strict=True)
            )
        ]
        y[:, *p] = reduce([x[:, *cell] for cell in cells], axis=0)
    return y
