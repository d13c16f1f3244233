"""Rotations and reflections as matrices, on maps: independent of `cnn.ops.group`."""

from __future__ import annotations

import numpy as np

from cnn.ops import Group
from tests.ops import loops

ROTATION, REFLECTION = np.array([[0, -1], [1, 0]]), np.diag([1, -1])
ROTATIONS = [np.linalg.matrix_power(ROTATION, k) for k in range(4)]
MATRICES: dict[Group, list[np.ndarray]] = {
    "flip": [np.array([[1]]), np.array([[-1]])],
    "p4": ROTATIONS,
    "p4m": ROTATIONS + [r @ REFLECTION for r in ROTATIONS],
}
SIZES = {"flip": (7,), "p4": (5, 5), "p4m": (5, 5)}
CASES = [(group, r) for group, matrices in MATRICES.items() for r in range(len(matrices))]


def number(group: Group, matrix: np.ndarray) -> int:
    """Return which transformation a matrix is."""
    return [np.array_equal(matrix, other) for other in MATRICES[group]].index(True)


def moved(matrix: np.ndarray, position: tuple[int, ...], size: tuple[int, ...]) -> tuple[int, ...]:
    """Return where a transformation of a square map moves a position."""
    last = np.array(size) - 1
    return tuple((((matrix @ (2 * np.array(position) - last)) + last) // 2).tolist())


def turn(x: np.ndarray, group: Group, t: int, features: bool) -> np.ndarray:
    """Return a map, with `features` of the group or plain channels, transformed by t."""
    matrix, order = MATRICES[group][t], len(MATRICES[group])
    y, size = np.empty_like(x), x.shape[1:-1]
    for p in loops.indices(size):
        y[:, *moved(matrix, p, size)] = x[:, *p]
    if not features:
        return y
    by_feature = y.reshape(*y.shape[:-1], -1, order)
    permuted = np.empty_like(by_feature)
    for s in range(order):
        permuted[..., number(group, matrix @ MATRICES[group][s])] = by_feature[..., s]
    return permuted.reshape(y.shape)
