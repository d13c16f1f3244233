"""What a data set is: arrays in memory, ready for a network, and the rule that holds a part out."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, UInt8

from cnn.data.lazy import LazyArray
from cnn.errors import InputError


@dataclass(frozen=True, eq=False)
class Split:
    """Examples `x`, (n, *spatial, channels), and their class indices `y`, (n,)."""

    x: Float32[np.ndarray, "n *spatial channels"] | LazyArray
    y: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Int[np.ndarray, " m"]) -> Split:
        """Return the examples at these row numbers, in this order."""
        taken = self.x.take(rows) if isinstance(self.x, LazyArray) else self.x[rows]
        return Split(taken, self.y[rows])

    def first(self, count: int) -> Split:
        """Return the first `count` examples, or all where there are no more."""
        return self.take(np.arange(min(count, len(self))))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled set with its training and test examples.

    `train` is all of the training data, for the run whose test accuracy is reported. Whatever has
    to be chosen first is chosen by the same code on `held_out()`, where a part of the training data
    stands in the place of the test data; the test data is then out of reach.

    `mean` and `std`, one number per channel, are what `x` was standardised with: the raw values
    are `x * std + mean`. Both are in the raw data's unit (grey levels for images).

    Raises `InputError` where the arrays do not fit together.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test)):
            x, y = split.x, split.y
            where = f"data set {self.name!r}, {part}"
            if x.ndim < 3 or x.dtype != np.float32 or y.shape != x.shape[:1] or y.dtype != np.int32:
                raise InputError(
                    f"{where}: x is {x.dtype} {x.shape} and y is {y.dtype} {y.shape}: make them "
                    "float32 (n, *spatial, channels) and int32 (n,)"
                )
            if x.shape[1:] != self.input_shape:
                raise InputError(
                    f"{where}: examples of shape {x.shape[1:]} beside training examples of shape "
                    f"{self.input_shape}: give both the same"
                )
            if len(y) == 0:
                raise InputError(f"{where}: no examples: give at least one")
            if y.min() < 0 or y.max() >= self.num_classes:
                raise InputError(
                    f"{where}: labels from {y.min()} to {y.max()} for {self.num_classes} classes: "
                    "number them from 0"
                )

    @property
    def num_classes(self) -> int:
        """How many classes the labels count."""
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """The shape of one example, (*spatial, channels)."""
        return self.train.x.shape[1:]

    def held_out(self) -> Dataset:
        """Return the set in which to choose: the last tenth of each class of `train` is its `test`.

        "Last" is in stored order and the tenth is rounded, so the rule needs no seed. It goes class
        by class because some sets are stored class after class. The scaling stays as it is.

        Raises `InputError` where no class has the five examples that this needs.
        """
        kept, held = split_last(self.train.y, 1 / 10)
        return replace(self, train=self.train.take(kept), test=self.train.take(held))


def split_last(
    y: Int[np.ndarray, " n"], fraction: float
) -> tuple[Int[np.ndarray, " kept"], Int[np.ndarray, " last"]]:
    """Return the rows before, and those in, the last `fraction` of each class, in stored order."""
    last = rank_in_class(y) >= np.round(np.bincount(y) * (1 - fraction))[y]
    return np.flatnonzero(~last), np.flatnonzero(last)


def rank_in_class(y: Int[np.ndarray, " n"]) -> Int[np.ndarray, " n"]:
    """Return for every row how many rows before it have its label.

    >>> rank_in_class(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    by_class = np.argsort(y, kind="stable")
    count = np.bincount(y)
    start = np.cumsum(count) - count
    rank = np.empty_like(by_class)
    rank[by_class] = np.arange(len(y)) - start[y[by_class]]
    return rank


def statistics(
    x: UInt8[np.ndarray, "n *spatial channels"],
) -> tuple[Float[np.ndarray, " channels"], Float[np.ndarray, " channels"]]:
    """Return mean and standard deviation of each channel, 1 in the place of a deviation of 0."""
    # Sums over bytes are exact in int64, and no float64 copy of the images is made for them.
    channels = x.shape[-1]
    sums = x.sum(axis=0, dtype=np.int64).reshape(-1, channels).sum(axis=0)
    squares = np.einsum("n...,n...->...", x, x, dtype=np.int64)
    squares = squares.reshape(-1, channels).sum(axis=0)
    pixels = x.size // channels
    mean = sums / pixels
    std = np.sqrt(squares / pixels - mean**2)
    std[std == 0] = 1
    return mean, std


def from_images(
    name: str,
    train_x: UInt8[np.ndarray, "n *spatial channels"],
    train_y: Int[np.ndarray, " n"],
    test_x: UInt8[np.ndarray, "m *spatial channels"],
    test_y: Int[np.ndarray, " m"],
    classes: tuple[str, ...],
) -> Dataset:
    """Return the data set of these images, with values from 0 to 255.

    Both parts are standardised, channel by channel, by the mean and the standard deviation over all
    pixels of the training images. A channel that never changes is only centred.
    """
    mean, std = statistics(train_x)

    def standardise(x: np.ndarray, y: np.ndarray) -> Split:
        scaled = x.astype(np.float32)
        scaled -= mean.astype(np.float32)
        scaled /= std.astype(np.float32)
        return Split(scaled, y.astype(np.int32))

    return Dataset(
        name,
        train=standardise(train_x, train_y),
        test=standardise(test_x, test_y),
        classes=tuple(classes),
        mean=tuple(mean.tolist()),
        std=tuple(std.tolist()),
    )
