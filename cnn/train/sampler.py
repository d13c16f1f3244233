"""Which examples form which batch: a pure function of (seed, step), with no state to save."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np


@lru_cache(maxsize=128)
def epoch_order(count: int, seed: int, epoch: int) -> np.ndarray:
    """Return the permutation of `count` examples in which `seed` reads them in `epoch`."""
    permutation = np.random.default_rng((seed, epoch)).permutation(count).astype(np.int32)
    permutation.flags.writeable = False
    return permutation


def batch_rows(count: int, batch_size: int, seed: int, step: int) -> np.ndarray:
    """Return the row numbers `(batch_size,)` of the examples of a step.

    An epoch drops its incomplete last batch. Each epoch drops other examples, because each has its
    own order.
    """
    epoch, i = divmod(step, count // batch_size)
    return epoch_order(count, seed, epoch)[i * batch_size : (i + 1) * batch_size]


def chunk_rows(
    count: int, batch_size: int, seeds: Sequence[int], start: int, steps: int
) -> np.ndarray:
    """Return the row numbers `(batch_size, steps, seeds)` of `steps` steps from `start` on."""
    every = range(start, start + steps)
    rows = [[batch_rows(count, batch_size, seed, step) for seed in seeds] for step in every]
    return np.ascontiguousarray(np.moveaxis(np.asarray(rows), -1, 0))


def evaluation_batches(count: int, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield `(rows, weights)` of equal size that cover all examples once, in stored order.

    Weight 0 marks the padding of the last batch.
    """
    for start in range(0, count, batch_size):
        rows = np.arange(start, start + batch_size)
        valid = rows < count
        yield np.where(valid, rows, 0).astype(np.int32), valid.astype(np.float32)
