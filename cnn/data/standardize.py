"""Standardization: inputs with mean 0 and deviation 1 in each channel of the training part."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from jaxtyping import Float, Float32, UInt8

from cnn.data.split import Parts, Split
from cnn.errors import InputError

CHUNK = 2**22
"""Values that are converted to float64 at a time."""


Statistics = tuple[Float[np.ndarray, " channels"], Float[np.ndarray, " channels"]]


def statistics(
    x: UInt8[np.ndarray, "n *spatial channels"] | Float[np.ndarray, "n *spatial channels"],
) -> Statistics:
    """Return mean and standard deviation of each channel. A deviation of 0 is returned as 1."""
    if x.dtype == np.uint8:
        return statistics_of_bytes([x])
    axes, pixels = tuple(range(x.ndim - 1)), x.size // x.shape[-1]
    mean = x.mean(axes, dtype=np.float64)
    squares = sum(((x[rows] - mean) ** 2).sum(axes) for rows in _chunks(x))
    constant = x.min(axes) == x.max(axes)  # the mean is rounded, so squares may exceed 0
    return mean, np.where(constant, 1, np.sqrt(squares / pixels))


def statistics_of_bytes(batches: Iterable[UInt8[np.ndarray, "n *spatial channels"]]) -> Statistics:
    """Return mean and standard deviation of each channel over all batches."""
    # Sums of bytes are exact in int64, and need no float64 copy of the images.
    pixels, sums, squares = 0, np.int64(0), np.int64(0)
    for x in batches:
        spatial = tuple(range(x.ndim - 2))
        pixels += x.size // x.shape[-1]
        sums = sums + x.sum(axis=0, dtype=np.int64).sum(spatial)
        squares = squares + np.einsum("n...,n...->...", x, x, dtype=np.int64).sum(spatial)
    mean = np.asarray(sums / pixels)
    std = np.sqrt(squares / pixels - mean**2)
    std[std == 0] = 1
    return mean, std


def standardized(
    train: tuple[np.ndarray, np.ndarray],
    test: tuple[np.ndarray, np.ndarray],
    classes: tuple[str, ...],
) -> Parts:
    """Return the parts `(x, y)` with `x` standardized by the statistics of the training part.

    A constant channel is only centred.

    Raises:
        InputError: If the values are too large for their squares.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        mean, std = statistics(train[0])
    if not np.isfinite([mean, std]).all():
        raise InputError(
            f"x must have finite squares, got values up to {np.abs(train[0]).max():.3g}: scale it"
        )

    def split(x: np.ndarray, y: np.ndarray) -> Split:
        scaled: Float32[np.ndarray, "n *spatial channels"] = np.empty(x.shape, np.float32)
        if x.dtype == np.uint8:
            scaled[...] = x
            scaled -= mean.astype(np.float32)
            scaled /= std.astype(np.float32)
        else:
            for rows in _chunks(x):
                scaled[rows] = (x[rows] - mean) / std
        return Split(scaled, y)

    return Parts(split(*train), split(*test), classes, tuple(mean.tolist()), tuple(std.tolist()))


def _chunks(x: np.ndarray) -> Iterator[slice]:
    rows = max(1, CHUNK // max(1, x[:1].size))
    for start in range(0, len(x), rows):
        yield slice(start, start + rows)
