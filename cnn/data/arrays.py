"""Arrays in any common layout to the parts of a data set."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from cnn.data.labels import encode, plain_strings
from cnn.data.split import Parts, first_not_finite, split_by_seed
from cnn.data.standardize import standardized
from cnn.errors import InputError

ChannelAxis = int | Literal["none"] | None
MOST = 4
"""Most channels of a last axis that is taken for the channels without being told."""


def parts_of_arrays(
    x: Any,
    y: Any,
    test: tuple[Any, Any] | None,
    classes: Sequence[str] | None,
    channel_axis: ChannelAxis,
    seed: int,
    test_fraction: float,
) -> Parts:
    """Return the parts of `Dataset.from_arrays`, which describes the arguments."""
    if test is not None and len(test) != 2:
        raise InputError(f"test must be a pair (x, y), got {len(test)} values")
    pairs = {"": (x, y)} | ({} if test is None else {"test ": test})
    inputs = {
        f"{part}x": _inputs(f"{part}x", each, channel_axis) for part, (each, _) in pairs.items()
    }
    targets = {
        f"{part}y": plain_strings(_array(f"{part}y", each)) for part, (_, each) in pairs.items()
    }
    for (name, one), (other, two) in zip(inputs.items(), targets.items(), strict=True):
        if one.shape[:1] != two.shape[:1]:
            raise InputError(
                f"{name} and {other} must have as many rows, got {one.shape} and {two.shape}"
            )
        if one.dtype.kind == "f" and (row := first_not_finite(one)) is not None:
            raise InputError(f"{name} must be finite, got NaN or infinity in row {row}")
    first, *rest = inputs.values()
    for one in rest:
        if (one.dtype == np.uint8, one.shape[1:]) != (first.dtype == np.uint8, first.shape[1:]):
            raise InputError(
                f"test x must be like x, {first.dtype} {first.shape[1:]} per example, got "
                f"{one.dtype} {one.shape[1:]}"
            )
    encoded, names = encode(targets, classes)
    train, *others = zip(inputs.values(), encoded.values(), strict=True)
    if others:
        return standardized(train, others[0], names)
    kept, drawn = (
        (first[rows], train[1][rows]) for rows in split_by_seed(train[1], seed, test_fraction)
    )
    return standardized(kept, drawn, names)


def _array(name: str, value: Any) -> np.ndarray:
    try:
        array = np.asarray(value)
    except ValueError as error:  # lists of different lengths
        raise InputError(
            f"{name} must be an array: {' '.join(str(error).split())[:200]}"
        ) from error
    if array.ndim == 0 or array.size == 0:
        raise InputError(f"{name} must hold at least one example, got shape {array.shape}")
    return array


def _inputs(name: str, value: Any, channel_axis: ChannelAxis) -> np.ndarray:
    """Return `value` as uint8 or floats `(n, *spatial, channels)`."""
    x = _array(name, value)
    if x.dtype != np.uint8 and x.dtype.kind != "f":
        raise InputError(
            f"{name} must be uint8 images or floats, got {x.dtype}: use "
            f"{name}.astype(numpy.float32), or numpy.uint8 for values from 0 to 255"
        )
    if channel_axis == "none":
        x = x[..., None]
    elif isinstance(channel_axis, int):
        if channel_axis not in range(-x.ndim, x.ndim) or channel_axis % x.ndim == 0:
            raise InputError(
                f"channel_axis must be an axis of {name} {x.shape} and not its first, got "
                f"{channel_axis}"
            )
        x = np.moveaxis(x, channel_axis, -1)
    elif channel_axis is not None:
        raise InputError(f"channel_axis must be an axis, 'none' or None, got {channel_axis!r}")
    elif x.dtype == np.uint8 and x.ndim == 3 and x.shape[-1] > MOST:
        x = x[..., None]
    elif x.ndim < 3 or x.shape[-1] > MOST or (x.dtype == np.uint8 and x.ndim == 3):
        raise InputError(
            f"{name} {x.shape} does not say where its channels are: give {name}[..., None] if it "
            "has none, or channel_axis (-1: last, 1: first as in PyTorch)"
        )
    if not 3 <= x.ndim <= 5:
        raise InputError(
            f"{name} must have one to three spatial axes and one of channels, got "
            f"{x.shape[1:]} per example"
        )
    return x
