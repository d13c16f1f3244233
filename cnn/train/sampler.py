"""Which examples make which batch: a pure function of (seed, step), so there is nothing to save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=128)
def order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of `count` examples in which `seed` reads them in `epoch`."""
    permutation = np.random.default_rng((seed, epoch)).permutation(count).astype(np.int32)
    permutation.flags.writeable = False
    return permutation


def rows(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Return the `(batch_size,)` examples of a step. An epoch's incomplete last batch is left out.

    What is left out differs from epoch to epoch, as the order does.
    """
    epoch, i = divmod(step, count // batch_size)
    return order(count, seed, epoch)[i * batch_size : (i + 1) * batch_size]


def chunk_rows(
    count: int, batch_size: int, seeds: Sequence[int], start: int, steps: int
) -> np.ndarray:
    """Return `(batch_size, steps, seeds)`: the examples of `steps` steps from `start` on."""
    picked = [
        [rows(count, batch_size, seed, step) for seed in seeds]
        for step in range(start, start + steps)
    ]
    return np.ascontiguousarray(np.moveaxis(np.asarray(picked), -1, 0))


def in_order(count: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield all examples once as `(rows, weights)` of one size; weight 0 marks the filling-up."""
    for start in range(0, count, batch_size):
        index = np.arange(start, start + batch_size)
        inside = index < count
        yield np.where(inside, index, 0).astype(np.int32), inside.astype(np.float32)
