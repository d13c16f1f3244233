"""`Split`: inputs and targets of one part of a data set, and the rules that divide a set."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Int, Int32

from cnn.data.display import to_html, to_text
from cnn.data.lazy import LazyArray
from cnn.errors import InputError

TEST_FRACTION = 1 / 5
"""Part of the examples that is test data if a set has no test part of its own."""


@dataclass(frozen=True, eq=False, repr=False)
class Split:
    """Examples `x`, `(n, *spatial, channels)`, and their targets `y`.

    Targets are class indices, int32 `(n,)`, or floats, float32 `(n, *target_shape)` with at least
    one axis per example: values to predict, 0 or 1 for each of several labels, or maps. The last
    axis of float targets is that of the network's outputs.
    """

    x: Float32[np.ndarray, "n *spatial channels"] | LazyArray
    y: Int32[np.ndarray, " n"] | Float32[np.ndarray, "n *target outputs"]

    def __len__(self) -> int:
        return len(self.y)

    def __repr__(self) -> str:
        return f"<Split: {to_text({'': self}, self._labels())}>"

    def _repr_html_(self) -> str:
        channels = self.x.shape[-1]
        return to_html("Split", {"": self}, self._labels(), [0.0] * channels, [1.0] * channels)

    def _labels(self) -> list[str]:
        return [str(label) for label in range(self.y.max() + 1)] if self.has_classes else []

    @property
    def has_classes(self) -> bool:
        """Whether the targets are class indices."""
        return self.y.dtype == np.int32

    def take(self, rows: Int[np.ndarray, " m"]) -> Split:
        """Return the examples at these row numbers, in this order."""
        x = self.x.take(rows) if isinstance(self.x, LazyArray) else self.x[rows]
        return Split(x, self.y[rows])

    def first(self, count: int) -> Split:
        """Return the first `count` examples, or all if there are fewer."""
        return self.take(np.arange(min(count, len(self))))


class Parts(NamedTuple):
    """What makes a data set, but for its name. The fields are those of `cnn.data.Dataset`."""

    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]


def first_not_finite(array: np.ndarray) -> int | None:
    """Return the first row that holds NaN or infinity."""
    with np.errstate(all="ignore"):  # a sum that is finite needs no second look, and no copy
        if np.isfinite(array.sum()):
            return None
    finite = np.array([np.isfinite(row).all() for row in array])
    return None if finite.all() else int(finite.argmin())


def split_last(
    y: Int[np.ndarray, " n"], fraction: float
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " last"]]:
    """Return the rows before, and those in, the last `fraction` of each class, in stored order.

    The fraction is rounded. Of every class at least one row is kept.
    """
    kept = np.maximum(1, np.round(np.bincount(y) * (1 - fraction)))
    last = rank_in_class(y) >= kept[y]
    return np.flatnonzero(~last), np.flatnonzero(last)


def rank_in_class(y: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return for every row the number of earlier rows with the same label.

    >>> rank_in_class(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    count = np.bincount(y)
    return np.argsort(np.argsort(y, kind="stable")) - (np.cumsum(count) - count)[y]


def strata(y: np.ndarray) -> Int[np.ndarray, " n"]:
    """Return the groups that parts are balanced over: the classes, or one group of all rows."""
    return y if y.dtype == np.int32 else np.zeros(len(y), np.int32)


def split_by_seed(
    y: np.ndarray, seed: int, fraction: float = TEST_FRACTION
) -> tuple[Int[np.ndarray, " train"], Int[np.ndarray, " test"]]:
    """Return the rows of the training and of the test part, both in stored order.

    The test part is a random `fraction` of each class, or of all rows with float targets.

    Raises:
        InputError: If the arguments are out of range, or the test part is empty.
    """
    if not 0 < fraction < 1:
        raise InputError(f"test_fraction must be between 0 and 1, got {fraction}")
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    order = np.random.default_rng(seed).permutation(len(y))
    kept, drawn = split_last(strata(y)[order], fraction)
    if not len(drawn):
        raise InputError(
            f"a test part of {fraction:g} of {len(y)} examples is empty: give more examples of "
            "each class, or a test part"
        )
    return np.sort(order[kept]), np.sort(order[drawn])
