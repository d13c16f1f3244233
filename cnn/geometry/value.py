"""What is known of a value of a program before it runs."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from jaxtyping import Bool

from cnn.geometry.seen import Seen, nothing

MASK_LIMIT = 2**26
"""Entries of the largest constant that is computed to see where it is zero."""


class Value(NamedTuple):
    """A value: what it sees of the input, which parameters it depends on, or its constant."""

    shape: tuple[int, ...]
    seen: tuple[Seen, ...] = ()
    """For each spatial axis of the input; empty if the input does not change the value, or if what
    it sees is unknown."""
    unknown: str = ""
    """The primitive because of which what it sees is not known."""
    leaves: frozenset[int] = frozenset()
    """The parameters that it is computed from, if not from the input."""
    nonzero: Bool[np.ndarray, "*axes"] | None = None
    """Where a mask leaves the parameters. One axis is in front; the others have size 1 if all is
    the same along them."""
    constant: Callable[[], Any] | None = None
    """Computes the value, if it depends neither on the input nor on parameters."""
    row: int = -1
    """The row of the table to which the computation of the value belongs."""
    key: object = None
    """Tells a value that the input changes from all others; None for the rest."""
    part_of: object = None
    """The key of the value of which this is a part."""

    @property
    def from_input(self) -> bool:
        """Whether the input changes the value."""
        return self.key is not None

    def sees(self, axis: int) -> Seen:
        """Return what the value sees of one axis of the input."""
        return self.seen[axis] if self.seen else nothing(len(self.shape))

    def mask(self) -> Bool[np.ndarray, "*axes"] | None:
        """Return where a weight is not zero, as far as that is known before the program runs."""
        if self.constant is not None and math.prod(self.shape) <= MASK_LIMIT:
            return (np.asarray(self.constant()) != 0)[None]
        return self.nonzero

    def used(self, total: int) -> int:
        """Return how many of `total` uses of a weight's entries, equally many of each, count."""
        mask = self.mask()
        return total if mask is None else total * int(mask.sum()) // mask.size
