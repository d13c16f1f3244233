"""Pure functions from data set to data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from cnn.data.dataset import Dataset
from cnn.data.lazy import LazyArray
from cnn.data.split import Split, rank_in_class, strata
from cnn.errors import InputError


def permutation(
    size: int | Sequence[int], seed: int, block: int = 1
) -> Int[np.ndarray, " positions"]:
    """Return a permutation of the positions of a map of this `size`, determined by the `seed`.

    Blocks of `block` positions per axis move together. Larger blocks keep more neighbourhoods, from
    none at 1 to all at the size of the map.

    Raises:
        InputError: If `block` does not divide every axis.
    """
    sizes = (size,) if isinstance(size, int) else tuple(size)
    if block < 1 or any(n % block for n in sizes):
        raise InputError(f"block must divide the size {size}, got {block}")
    counts = [n // block for n in sizes]
    order = np.random.default_rng(seed).permutation(math.prod(counts))
    # A position is its block and its place in it. Only the block changes.
    blocks, places = np.divmod(np.indices(sizes).reshape(len(sizes), -1), block)
    sources = np.unravel_index(order[np.ravel_multi_index(tuple(blocks), counts)], counts)
    return np.ravel_multi_index(tuple(np.array(sources) * block + places), sizes)


def permute(dataset: Dataset, order: Int[np.ndarray, " positions"]) -> Dataset:
    """Permute the spatial positions of every example: position `p` gets the value of `order[p]`.

    Positions are counted in row-major order over the spatial axes; channels stay together. The
    inverse is `permute(·, numpy.argsort(order))`.

    Raises:
        InputError: If `order` is not a permutation of the positions, or the targets are maps, whose
            positions would no longer be those of the inputs.
    """
    if len(dataset.target_shape) > 1:
        raise InputError(
            f"permute needs class labels or vectors as targets, got maps {dataset.target_shape} in "
            f"data set {dataset.name!r}"
        )
    positions = math.prod(dataset.input_shape[:-1])
    if not np.array_equal(np.sort(order), np.arange(positions)):
        raise InputError(
            f"order must be a permutation of the {positions} positions of data set "
            f"{dataset.name!r}, got length {len(order)}: use permutation({positions}, seed)"
        )

    def moved(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), positions, -1)[:, order].reshape(x.shape)

    def move(split: Split) -> Split:
        if isinstance(split.x, LazyArray):
            return Split(split.x.map(f"permuted {order.tolist()}", moved), split.y)
        return Split(moved(split.x), split.y)

    return replace(dataset, train=move(dataset.train), test=move(dataset.test))


def subset(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Return the set with `n` of its training examples, balanced over the classes if it has any.

    With one seed a smaller subset is part of a larger one. Order, scaling and test examples stay.

    Raises:
        InputError: Unless 1 ≤ n ≤ the number of training examples.
    """
    total = len(dataset.train)
    if not 1 <= n <= total:
        raise InputError(
            f"n must be from 1 to the {total} training examples of {dataset.name!r}, got {n}"
        )
    shuffled = np.random.default_rng(seed).permutation(total)
    turn = rank_in_class(strata(dataset.train.y)[shuffled])
    drawn = shuffled[np.argsort(turn, kind="stable")[:n]]
    return replace(dataset, train=dataset.train.take(np.sort(drawn)))
