"""`Dataset`: inputs and targets ready for a network, and the rule that holds a part out."""

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
    """Examples `x`, `(n, *spatial, channels)`, and their targets `y`.

    Targets are class indices, int32 `(n,)`, or floats, float32 `(n, *target_shape)` with at least
    one axis per example: values to predict, 0 or 1 for each of several labels, or maps. The last
    axis of float targets is that of the network's outputs.
    """

    x: Float32[np.ndarray, "n *spatial channels"] | LazyArray
    y: Int32[np.ndarray, " n"] | Float32[np.ndarray, "n *target outputs"]

    def __len__(self) -> int:
        return len(self.y)

    @property
    def has_classes(self) -> bool:
        """Whether the targets are class indices."""
        return self.y.dtype == np.int32

    @property
    def strata(self) -> Int[np.ndarray, " n"]:
        """The groups that subsets and held-out parts are balanced over: classes, or one group."""
        return self.y if self.has_classes else np.zeros(len(self), np.int32)

    def take(self, rows: Int[np.ndarray, " m"]) -> Split:
        """Return the examples at these row numbers, in this order."""
        x = self.x.take(rows) if isinstance(self.x, LazyArray) else self.x[rows]
        return Split(x, self.y[rows])

    def first(self, count: int) -> Split:
        """Return the first `count` examples, or all if there are fewer."""
        return self.take(np.arange(min(count, len(self))))


@dataclass(frozen=True, eq=False)
class Dataset:
    """Inputs with class labels or float targets. To choose settings, use its `held_out()`.

    `x` is standardized: raw values are `x * std + mean`, with one mean and deviation per channel.
    Float targets are not. `classes` are the names of the classes; with float targets, the names of
    the `outputs`, or `()`.

    Raises:
        InputError: If the arrays do not fit together, or one in memory holds NaN or infinity.
    """

    name: str
    train: Split
    test: Split
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for part, split in (("train", self.train), ("test", self.test)):
            if error := self._error(split):
                raise InputError(f"data set {self.name!r}, {part}: {error}")

    def _error(self, split: Split) -> str:
        """Return what does not fit in one part, or an empty string."""
        x, y, names = split.x, split.y, len(self.classes)
        labels = y.dtype == np.int32 and y.ndim == 1
        targets = y.dtype == np.float32 and y.ndim > 1
        if (
            x.ndim < 3
            or x.dtype != np.float32
            or y.shape[:1] != x.shape[:1]
            or not (labels or targets)
        ):
            return (
                "x must be float32 (n, *spatial, channels), and y int32 (n,) or float32 (n, "
                f"*target_shape), got {x.dtype} {x.shape} and {y.dtype} {y.shape}"
            )
        if x.shape[1:] != self.input_shape:
            return f"examples must have shape {self.input_shape}, got {x.shape[1:]}"
        if (y.dtype, y.shape[1:]) != (self.train.y.dtype, self.target_shape):
            wanted = f"{self.train.y.dtype} {('n', *self.target_shape)}".replace("'", "")
            return f"y must be {wanted} as in train, got {y.dtype} {y.shape}"
        if len(y) == 0:
            return "there must be at least one example, got no examples"
        if 0 in (*x.shape, *y.shape):
            return f"no axis may have length 0, got x {x.shape} and y {y.shape}"
        if targets and names not in (0, y.shape[-1]):
            return f"classes must name the {y.shape[-1]} values of the targets, got {names} names"
        if labels and not names:
            return "classes must name the classes of the labels, got none"
        if labels and (y.min() < 0 or y.max() >= names):
            return f"labels must be from 0 to {names - 1}, got {y.min()} to {y.max()}"
        for what, array in (("x", x), ("y", y)):
            if not isinstance(array, LazyArray) and (row := _first_not_finite(array)) is not None:
                return f"{what} must be finite, got NaN or infinity in row {row}"
        return ""

    @property
    def has_classes(self) -> bool:
        """Whether the targets are class indices, and not floats."""
        return self.train.has_classes

    @property
    def num_classes(self) -> int:
        """Number of classes.

        Raises:
            InputError: If the targets are floats. Code that counts classes does not fit them; the
                size of a network's output is `outputs`.
        """
        if not self.has_classes:
            raise InputError(
                f"data set {self.name!r} must have class labels here, got float targets "
                f"{self.target_shape}: what takes them asks for outputs, not for num_classes"
            )
        return len(self.classes)

    @property
    def outputs(self) -> int:
        """Values that a network returns: one per class, or the last axis of float targets."""
        return len(self.classes) if self.has_classes else self.target_shape[-1]

    @property
    def target_shape(self) -> tuple[int, ...]:
        """Shape of the target of one example. It is `()` for class labels."""
        return self.train.y.shape[1:]

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, `(*spatial, channels)`."""
        return self.train.x.shape[1:]

    def content_hash(self) -> str:
        """Return a hash of the name, the targets and the examples; of lazy ones, of a sample.

        It does not depend on where the files are, or on when they were written.
        """
        digest = hashlib.sha256(self.name.encode())
        if not self.has_classes:  # their bytes could be those of labels, or of another shape
            digest.update(f"float32 {self.target_shape}".encode())
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

        "Last" is in stored order, and the tenth is rounded. The scaling stays. Float targets have
        no classes: it is the last tenth of all examples.

        Raises:
            InputError: If no class has the five examples that this needs.
        """
        kept, held = split_last(self.train.strata, 1 / 10)
        return replace(self, train=self.train.take(kept), test=self.train.take(held))


def _first_not_finite(array: np.ndarray) -> int | None:
    """Return the first row that holds NaN or infinity."""
    with np.errstate(all="ignore"):  # a sum that is finite needs no second look, and no copy
        if np.isfinite(array.sum()):
            return None
    finite = np.array([np.isfinite(row).all() for row in array])
    return None if finite.all() else int(finite.argmin())


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
