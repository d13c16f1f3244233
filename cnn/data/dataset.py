"""`Dataset`: arrays in memory, ready for a network, and the rule that holds a part out."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Float, Float32, Int, Int32, UInt8

from cnn.data.lazy import LazyArray
from cnn.errors import InputError

HASHED = 256
"""Examples of a lazy split that `Dataset.content_hash` reads, evenly spaced."""


@dataclass(frozen=True, eq=False)
class Split:
    """Examples `x`, `(n, *spatial, channels)`, and their class indices `y`, `(n,)`."""

    x: Float32[np.ndarray, "n *spatial channels"] | LazyArray
    y: Int32[np.ndarray, " n"]

    def __len__(self) -> int:
        return len(self.y)

    def take(self, rows: Int[np.ndarray, " m"]) -> Split:
        """Return the examples at these row numbers, in this order."""
        x = self.x.take(rows) if isinstance(self.x, LazyArray) else self.x[rows]
        return Split(x, self.y[rows])

    def first(self, count: int) -> Split:
        """Return the first `count` examples, or all if there are fewer."""
        return self.take(np.arange(min(count, len(self))))


@dataclass(frozen=True, eq=False)
class Dataset:
    """A labelled data set. To choose settings, use its `held_out()`.

    `x` is standardized: raw values are `x * std + mean`, with one mean and deviation per channel.

    Raises:
        InputError: If the arrays do not fit together.
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
            if x.ndim < 3 or x.dtype != np.float32 or y.shape != x.shape[:1] or y.dtype != np.int32:
                error = "x must be float32 (n, *spatial, channels) and y int32 (n,), got "
                error += f"{x.dtype} {x.shape} and {y.dtype} {y.shape}"
            elif x.shape[1:] != self.input_shape:
                error = f"examples must have shape {self.input_shape}, got {x.shape[1:]}"
            elif len(y) == 0:
                error = "there must be at least one example, got no examples"
            elif y.min() < 0 or y.max() >= (classes := len(self.classes)):
                error = f"labels must be from 0 to {classes - 1}, got {y.min()} to {y.max()}"
            else:
                continue
            raise InputError(f"data set {self.name!r}, {part}: {error}")

    @property
    def num_classes(self) -> int:
        """Number of classes."""
        return len(self.classes)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, `(*spatial, channels)`."""
        return self.train.x.shape[1:]

    def content_hash(self) -> str:
        """Return a hash of the name, the labels and the examples; of lazy ones, of a sample.

        It does not depend on where the files are, or on when they were written.
        """
        digest = hashlib.sha256(self.name.encode())
        for split in (self.train, self.test):
            x = split.x
            if isinstance(x, LazyArray):
                sample = np.linspace(0, len(split) - 1, min(len(split), HASHED)).astype(int)
                digest.update(np.ascontiguousarray(x.rows).tobytes())
                x = x[sample]
            for array in (x, split.y):
                digest.update(np.ascontiguousarray(array).reshape(-1).view(np.uint8).data)
        return digest.hexdigest()

    def held_out(self) -> Dataset:
        """Return the set whose test part is the last tenth of each class of `train`.

        "Last" is in stored order, and the tenth is rounded. The scaling stays.

        Raises:
            InputError: If no class has the five examples that this needs.
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
    """Return for every row the number of earlier rows with the same label.

    >>> rank_in_class(np.array([7, 3, 7, 7, 3])).tolist()
    [0, 0, 1, 2, 1]
    """
    count = np.bincount(y)
    return np.argsort(np.argsort(y, kind="stable")) - (np.cumsum(count) - count)[y]


def statistics(
    x: UInt8[np.ndarray, "n *spatial channels"],
) -> tuple[Float[np.ndarray, " channels"], Float[np.ndarray, " channels"]]:
    """Return mean and standard deviation of each channel. A deviation of 0 is returned as 1."""
    # Sums of bytes are exact in int64, and need no float64 copy of the images.
    spatial, pixels = tuple(range(x.ndim - 2)), x.size // x.shape[-1]
    mean = x.sum(axis=0, dtype=np.int64).sum(spatial) / pixels
    squares = np.einsum("n...,n...->...", x, x, dtype=np.int64)
    std = np.sqrt(squares.sum(spatial) / pixels - mean**2)
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

    Both parts are standardized by the mean and standard deviation of each channel over all pixels
    of the training images. A constant channel is only centred.

    Raises:
        InputError: If the images are not uint8, or the labels no whole numbers.
    """
    for part, x, y in (("train", train_x, train_y), ("test", test_x, test_y)):
        if x.dtype != np.uint8:
            error = f"images must be uint8 with values from 0 to 255, got {x.dtype}"
        elif y.dtype.kind not in "iu":
            error = f"labels must be whole numbers, the indices of the classes, got {y.dtype}"
        else:
            continue
        raise InputError(f"data set {name!r}, {part}: {error}")
    mean, std = statistics(train_x)

    def standardize(x: np.ndarray, y: np.ndarray) -> Split:
        scaled = x.astype(np.float32)
        scaled -= mean.astype(np.float32)
        scaled /= std.astype(np.float32)
        return Split(scaled, y.astype(np.int32))

    train, test = standardize(train_x, train_y), standardize(test_x, test_y)
    return Dataset(name, train, test, tuple(classes), tuple(mean.tolist()), tuple(std.tolist()))
