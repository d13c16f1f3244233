"""The bins of adaptive pooling along an axis.

Of m bins on n positions, bin i holds the positions

    ⌊i · n / m⌋ … ⌈(i + 1) · n / m⌉ − 1

as in PyTorch. Bins are equal where m divides n. Otherwise some overlap, or repeat where m > n.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np


class Ranges(NamedTuple):
    """Ranges of positions, none of them empty."""

    start: np.ndarray
    end: np.ndarray

    @property
    def width(self) -> int:
        """The length of the longest range."""
        return int((self.end - self.start).max())

    def cells(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the first position of every range, then the second of every range, and so on.

        With each, whether it is inside: a range that is shorter repeats its last position.
        """
        for a in range(self.width):
            yield np.minimum(self.start + a, self.end - 1), self.start + a < self.end


class Bins(NamedTuple):
    """The bins on one axis of an array."""

    size: int
    out: int
    axis: int

    @property
    def positions(self) -> Ranges:
        """The positions of every bin."""
        i = np.arange(self.out)
        return Ranges(i * self.size // self.out, -(-(i + 1) * self.size // self.out))

    @property
    def holders(self) -> Ranges:
        """The bins that hold every position."""
        (start, end), j = self.positions, np.arange(self.size)
        return Ranges(np.searchsorted(end, j, "right"), np.searchsorted(start, j, "right"))
