"""How alike filters are that have no common order: channels, and the units of a dense layer.

Each filter is compared with the one that is most like it. The best of many is high by chance, too,
so compare with `signs_at_random` of the same weights.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

Filters = Float[np.ndarray, "positions offsets c_in c_out"]
"""The filter of every output position, in row-major order (`cnn.probes.filters`)."""
DenseKernel = Float[np.ndarray, "..."]
"""The kernel of a `DenseSpatial`: `(*in, c_in, *out, c_out)`."""


def best_window_share(kernel: DenseKernel, window: int) -> float:
    """Return the share of squared weight in a filter's best window, the mean over filters.

    A window has `window` samples on every axis, and all input channels. Filters of zeros do not
    count.
    """
    rank = kernel.ndim // 2 - 1
    squares = np.square(_by_filter(kernel))
    squares = squares[..., squares.sum(tuple(range(rank + 1))) > 0]
    sums = squares.sum(rank)
    for axis in range(rank):
        sums = np.lib.stride_tricks.sliding_window_view(sums, window, axis=axis).sum(-1)
    axes = tuple(range(rank))
    return float((sums.max(axes) / squares.sum((*axes, rank))).mean())


def neighbour_cosines(weights: Filters) -> Float[np.ndarray, "positions c_out"]:
    """Return the best cosine of each filter with those of the next position, NaN for zeros.

    There is one position less: the last has no next. In an image, the first position of a row
    follows the last one of the row before.
    """
    flat = np.moveaxis(weights, -1, 1).reshape(len(weights), weights.shape[-1], -1)
    unit = flat / _nan_if_zero(np.linalg.norm(flat, axis=-1, keepdims=True))
    return np.asarray((unit[:-1] @ np.nan_to_num(unit[1:]).swapaxes(1, 2)).max(-1))


def shifted_cosines(
    kernel: DenseKernel, least_shift: int, most: int
) -> Float[np.ndarray, " filters"]:
    """Return the best cosine of each filter with all others, at any shift; NaN for zeros.

    Of a filter that is shifted over the edge, only the part inside counts, but its whole norm.

    Args:
        kernel: Of a `DenseSpatial`.
        least_shift: Smaller shifts do not count: the stride, by which two filters of one channel of
            a convolution differ at least.
        most: Of more filters, so many evenly spaced ones are compared.
    """
    rank = kernel.ndim // 2 - 1
    size, axes = kernel.shape[:rank], tuple(range(1, rank + 1))
    flat = np.moveaxis(_by_filter(kernel), -1, 0)
    count = min(most, len(flat))
    flat = flat[np.arange(count) * len(flat) // count]
    unit = flat / _nan_if_zero(np.sqrt(np.square(flat).sum((*axes, -1), keepdims=True)))
    twice = [2 * n for n in size]  # so that nothing wraps around
    spectra = np.fft.rfftn(np.nan_to_num(unit), twice, axes)
    near = [np.minimum(np.arange(n), n - np.arange(n)) < least_shift for n in twice]
    excluded = np.logical_and.reduce(np.meshgrid(*near, indexing="ij"))
    best = np.full(count, np.nan)
    for i in np.flatnonzero(~np.isnan(unit).any((*axes, -1))):
        products = (np.delete(spectra, i, 0) * spectra[i].conj()).sum(-1)
        best[i] = np.fft.irfftn(products, twice, axes)[:, ~excluded].max()
    return best


def signs_at_random(weights: np.ndarray, seed: int = 0) -> np.ndarray:
    """Return the weights with random signs: as large at the same places, and alike by chance."""
    return np.random.default_rng(seed).choice([-1.0, 1.0], weights.shape) * weights


def places_at_random(kernel: DenseKernel, seed: int = 0) -> DenseKernel:
    """Return the kernel with the inputs of each filter permuted: as sparse, and local by chance."""
    flat = kernel.reshape(-1, _by_filter(kernel).shape[-1])
    return np.random.default_rng(seed).permuted(flat, axis=0).reshape(kernel.shape)


def _by_filter(kernel: np.ndarray) -> np.ndarray:
    """Return `(*in, c_in, filters)`: all positions and channels of the output on one axis."""
    return kernel.reshape(*kernel.shape[: kernel.ndim // 2], -1)


def _nan_if_zero(norms: np.ndarray) -> np.ndarray:
    return np.where(norms > 0, norms, np.nan)
