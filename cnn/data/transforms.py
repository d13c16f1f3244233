"""Pure functions from data set to data set."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from cnn.data.dataset import Dataset, Split, rank_in_class
from cnn.data.lazy import LazyArray
from cnn.errors import InputError


def permutation(
    size: int | Sequence[int], seed: int, block: int = 1
) -> Int[np.ndarray, " positions"]:
    """Return a permutation, which only the seed decides, of the positions of a map of `size`.

    With a `block` larger than 1, blocks of so many positions per axis move as a whole: the larger
    they are the less is lost, from every neighbourhood to, at the whole map, none.
    Raises `InputError` where the block does not divide every axis.
    """
    sizes = [size] if isinstance(size, int) else list(size)
    if block < 1 or any(n % block for n in sizes):
        raise InputError(f"block {block} does not divide the size {size}: choose a divisor")
    counts = [n // block for n in sizes]
    moved = np.random.default_rng(seed).permutation(math.prod(counts))
    # Axes (block row, row within) of each spatial axis, so that whole blocks can change places.
    split = np.arange(math.prod(sizes)).reshape([n for c in counts for n in (c, block)])
    outer, inner = range(0, split.ndim, 2), range(1, split.ndim, 2)
    blocks = split.transpose(*outer, *inner).reshape(len(moved), -1)[moved]
    back = blocks.reshape(*counts, *[block] * len(counts))
    order = [axis for i in range(len(counts)) for axis in (i, len(counts) + i)]
    return back.transpose(order).reshape(-1)


def permute(dataset: Dataset, order: Int[np.ndarray, " positions"]) -> Dataset:
    """Move every example's spatial positions in the same way: position `p` gets `order[p]`'s value.

    Positions are counted in row-major order over the spatial axes; channels stay together. This
    takes the neighbourhoods out of the data and no information: a dense network cannot tell the
    difference. The inverse is `permute(·, numpy.argsort(order))`.

    Raises `InputError` where `order` is no permutation of the set's positions.
    """
    positions = math.prod(dataset.input_shape[:-1])
    if not np.array_equal(np.sort(order), np.arange(positions)):
        raise InputError(
            f"order of length {len(order)} is no permutation of the {positions} positions of data "
            f"set {dataset.name!r}: make one by permutation({positions}, seed)"
        )

    def moved(x: np.ndarray) -> np.ndarray:
        return x.reshape(len(x), positions, -1)[:, order].reshape(x.shape)

    def move(split: Split) -> Split:
        if isinstance(split.x, LazyArray):
            return Split(split.x.then(f"permuted {order.tolist()}", moved), split.y)
        return Split(moved(split.x), split.y)

    return replace(dataset, train=move(dataset.train), test=move(dataset.test))


def subset(dataset: Dataset, n: int, seed: int) -> Dataset:
    """Return the set with `n` of its training examples; the test examples stay as they are.

    The seed shuffles each class, and the classes then take turns until `n` are drawn. So the
    classes are as equal as the data allow, and with one seed a smaller subset lies inside a
    larger one. The drawn examples keep their stored order and scaling.

    Raises `InputError` unless 1 ≤ n ≤ the number of training examples.
    """
    total = len(dataset.train)
    if not 1 <= n <= total:
        raise InputError(
            f"n = {n}: data set {dataset.name!r} has {total} training examples: take 1 to {total}"
        )
    shuffled = np.random.default_rng(seed).permutation(total)
    turn = rank_in_class(dataset.train.y[shuffled])
    drawn = shuffled[np.argsort(turn, kind="stable")[:n]]
    return replace(dataset, train=dataset.train.take(np.sort(drawn)))
