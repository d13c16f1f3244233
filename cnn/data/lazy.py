"""Examples that are read from files when needed, for sets that are larger than memory."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np
from jaxtyping import Float32, Int, UInt8

BUDGET = 4 * 2**30
"""Bytes of float32 up to which a split is kept in memory, and on the devices that train on it."""


@dataclass(frozen=True, eq=False, repr=False)
class LazyArray:
    """Acts as an array `(n, *spatial, channels)` of standardized examples that stay in files.

    Indexing with row numbers reads and decodes those examples.
    """

    name: str
    """Identifies the files and their state: equal names mean equal examples."""
    read: Callable[[np.ndarray], UInt8[np.ndarray, "m *spatial channels"]]
    """Maps row numbers `(m,)` of the files to raw examples. Several threads may call it at once."""
    rows: Int[np.ndarray, " n"]
    example_shape: tuple[int, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    dtype: ClassVar[np.dtype] = np.dtype(np.float32)

    def __repr__(self) -> str:
        return f"<LazyArray of shape {self.shape}, in files>"

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the whole array."""
        return (len(self.rows), *self.example_shape)

    @property
    def ndim(self) -> int:
        """Number of axes."""
        return len(self.shape)

    def take(self, rows: Int[np.ndarray, " m"]) -> LazyArray:
        """Return the examples at these row numbers, without reading them."""
        return replace(self, rows=self.rows[rows])

    def map(self, name: str, f: Callable[[np.ndarray], np.ndarray]) -> LazyArray:
        """Return the array whose examples `f` changes after they are read, in batches."""
        read = self.read
        return replace(self, name=f"{self.name}, {name}", read=lambda rows: f(read(rows)))

    def __getitem__(
        self, rows: Int[np.ndarray, "*any"]
    ) -> Float32[np.ndarray, "*any *spatial channels"]:
        raw = self.read(self.rows[rows.reshape(-1)]).astype(np.float32)
        raw -= np.asarray(self.mean, np.float32)
        raw /= np.asarray(self.std, np.float32)
        return raw.reshape(*rows.shape, *self.example_shape)


def fits_budget(examples: int, shape: tuple[int, ...]) -> bool:
    """Return whether this many examples of this shape are within `BUDGET`."""
    return 4 * examples * math.prod(shape) <= BUDGET
