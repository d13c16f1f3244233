"""The equations of the lectures as loops: what every operation is held to.

Nothing here is taken from `cnn`, and nothing is fast.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

Index = tuple[int, ...]


class Windows(NamedTuple):
    """Windows on a map, everything per spatial axis."""

    size: Index
    window: Index
    strides: Index
    before: Index
    after: Index
    dilation: Index

    @property
    def out(self) -> Index:
        """Count the starts from which the last tap is still within the padded map."""
        counts = []
        for n, k, s, lo, hi, r in zip(*self, strict=True):
            starts = range(0, n + lo + hi, s)
            counts.append(sum(start + (k - 1) * r < n + lo + hi for start in starts))
        return tuple(counts)

    def cell(self, p: Index, a: Index, mode: str = "zeros") -> Index | None:
        """Return the cell that tap `a` of the window at `p` sees, None where there is none."""
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
    at: Windows,
    mode: str = "zeros",
    groups: int = 1,
) -> np.ndarray:
    """y[b, p, o] = Σ_a Σ_c x[b, cell(p, a), c] · kernel_at(p)[a, c, o], c in the group of o."""
    c_in, c_out = kernel_at(tuple(0 for _ in at.size)).shape[-2:]
    y = np.zeros((len(x), *at.out, c_out))
    for p in indices(at.out):
        kernel = kernel_at(p)
        for a in indices(at.window):
            cell = at.cell(p, a, mode)
            if cell is None:
                continue
            for o in range(c_out):
                first = o // (c_out // groups) * c_in
                for c in range(c_in):
                    y[:, *p, o] += x[:, *cell, first + c] * kernel[(*a, c, o)]
    return y


def pool(x: np.ndarray, at: Windows, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """Reduce the cells that each window sees; padding is not among them."""
    y = np.zeros((len(x), *at.out, x.shape[-1]))
    for p in indices(at.out):
        cells = [cell for a in indices(at.window) if (cell := at.cell(p, a))]
        y[:, *p] = reduce([x[:, *cell] for cell in cells], axis=0)
    return y


def adaptive_pool(x: np.ndarray, out: Index, reduce: Callable[..., np.ndarray]) -> np.ndarray:
    """Cut n cells of width 1 into m bins of width n / m; a bin sees the cells it overlaps."""
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
