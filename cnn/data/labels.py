"""Targets as users have them (whole numbers, names, floats) to class indices or float32."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cnn.data.split import first_not_finite
from cnn.errors import InputError


def encode(
    parts: dict[str, np.ndarray], classes: Sequence[str] | None
) -> tuple[dict[str, np.ndarray], tuple[str, ...]]:
    """Return the targets of each part as `cnn.data.Split` wants them, and the names of the classes.

    Whole numbers, truth values and strings `(n,)` are class labels. Their classes are the sorted
    values of the first part. If `classes` are given, numbers are indices of these, and strings are
    among them. Floats are values to predict; `(n,)` becomes `(n, 1)`, and `classes` may name the
    last axis.

    Args:
        parts: Targets by the name of the argument that holds them, the training part first.
        classes: Names of the classes.

    Raises:
        InputError: If the targets are none of these, or a part has a label that is no class.
    """
    names = None if classes is None else tuple(str(name) for name in classes)
    if names is not None and len(set(names)) < len(names):
        raise InputError(f"classes must have different names, got {list(names)}")
    kinds = {name: _kind(name, y) for name, y in parts.items()}
    if len(set(kinds.values())) > 1:
        raise InputError(
            "training and test targets must be of one kind, got "
            + " and ".join(f"{kind} in {name}" for name, kind in kinds.items())
        )
    (kind,) = set(kinds.values())
    if kind == "floats":
        return {name: _floats(name, y) for name, y in parts.items()}, names or ()
    values = np.unique(next(iter(parts.values())))
    if names is not None:
        values = np.arange(len(names)) if kind == "numbers" else np.array(names)
    if len(values) < 2:
        raise InputError(
            f"labels must have at least two classes, got {values.tolist()}: values to predict are "
            "given as floats"
        )
    return (
        {name: _indices(name, y, values) for name, y in parts.items()},
        names or tuple(str(value) for value in values),
    )


def _kind(name: str, y: np.ndarray) -> str:
    if y.dtype.kind == "f" and y.ndim > 0:
        return "floats"
    if y.ndim > 1 and y.dtype.kind in "biu":
        raise InputError(
            f"{name} must be class labels (n,) or floats (n, *target_shape), got {y.dtype} "
            f"{y.shape}: give {name}[:, 0] if there is one label per example, or "
            f"{name}.astype(numpy.float32) for values and for several labels per example"
        )
    if y.ndim != 1 or y.dtype.kind not in "biuU":
        raise InputError(
            f"{name} must be whole numbers or strings (n,), or floats (n, *target_shape), got "
            f"{y.dtype} {y.shape}: use {name}.astype(str) for names and float for values"
        )
    return "strings" if y.dtype.kind == "U" else "numbers"


def plain_strings(y: np.ndarray) -> np.ndarray:
    """Return `y`, as plain strings if its objects are all strings, like a column of pandas."""
    texts = y.dtype == object and all(isinstance(value, str) for value in y.reshape(-1))
    return y.astype(str) if texts else y


def _floats(name: str, y: np.ndarray) -> np.ndarray:
    with np.errstate(over="ignore"):
        y = y.astype(np.float32)
    if (row := first_not_finite(y)) is not None:
        raise InputError(f"{name} must be finite float32, got NaN or infinity in row {row}")
    return y[:, None] if y.ndim == 1 else y


def _indices(name: str, y: np.ndarray, values: np.ndarray) -> np.ndarray:
    order = np.argsort(values)
    places = np.minimum(np.searchsorted(values, y, sorter=order), len(values) - 1)
    indices = order[places]
    if (wrong := values[indices] != y).any():
        row = int(wrong.argmax())
        known = ", ".join(map(str, values[:10].tolist())) + (", …" if len(values) > 10 else "")
        raise InputError(
            f"{name} must be among the classes {known}, got {y[row].item()!r} in row {row}"
        )
    return indices.astype(np.int32)
