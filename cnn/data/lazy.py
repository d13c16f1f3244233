"""Examples that stay in their files until they are read: for sets that are larger than memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int, UInt8

BUDGET = 4 * 2**30
"""Bytes of float32 up to which a split is held in memory, and on the devices that train on it."""


@dataclass(frozen=True, eq=False)
class LazyArray:
    """Stands in for an array `(n, *spatial, channels)` of standardised examples.

    Indexing with row numbers decodes those examples. `read` maps row numbers `(m,)` of the files to
    raw examples, from several threads at once; `name` is the same for the same files only.
    """

    name: str
    read: Callable[[np.ndarray], UInt8[np.ndarray, "m *spatial channels"]]
    rows: Int[np.ndarray, " n"]
    example: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the array it stands for."""
        return (len(self.rows), *self.example)

    @property
    def ndim(self) -> int:
        """How many axes that array has."""
        return len(self.shape)

    def take(self, rows: Int[np.ndarray, " m"]) -> LazyArray:
        """Return the examples at these row numbers, still in their files."""
        return replace(self, rows=self.rows[rows])

    def then(self, what: str, change: Callable[[np.ndarray], np.ndarray]) -> LazyArray:
        """Return these examples, each batch of them changed after it is read."""
        read = self.read
        return replace(self, name=f"{self.name}, {what}", read=lambda rows: change(read(rows)))

    def __getitem__(
        self, rows: Int[np.ndarray, "*any"]
    ) -> Float32[np.ndarray, "*any *spatial channels"]:
        raw = self.read(self.rows[rows.reshape(-1)]).astype(np.float32)
        raw -= np.asarray(self.mean, np.float32)
        raw /= np.asarray(self.std, np.float32)
        return raw.reshape(*rows.shape, *self.example)


def fits(examples: int, shape: tuple[int, ...]) -> bool:
    """Say whether so many examples of this shape are within the budget."""
    return 4 * examples * math.prod(shape) <= BUDGET
