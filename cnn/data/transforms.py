"""Pure functions from data set to data set."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from jaxtyping import Int

from cnn.data.dataset import Dataset, Split, rank_in_class
from cnn.errors import InputError


def permutation(positions: int, seed: int) -> Int[np.ndarray, " positions"]:
    """Return a permutation of `positions` spatial positions that only the seed decides."""
    return np.random.default_rng(seed).permutation(positions)


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

    def move(split: Split) -> Split:
        flat = split.x.reshape(len(split), positions, -1)
        return Split(flat[:, order].reshape(split.x.shape), split.y)

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
