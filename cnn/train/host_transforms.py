"""Grain transforms of the training examples, on the host, as they are read."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from etils import epy

from cnn.data import Split
from cnn.errors import InputError
from cnn.train.recipe import plain
from cnn.train.step import Batch

with epy.lazy_imports():  # takes 2 s to import
    import grain

if TYPE_CHECKING:
    from jaxtyping import Int

    Transform: TypeAlias = grain.transforms.Map | grain.transforms.RandomMap


def transform_examples(
    transforms: Sequence[Transform],
    examples: Batch,
    keys: Int[np.ndarray, "*batch integers"],
) -> Batch:
    """Return the examples, each changed by the transforms in turn.

    A transform gets and returns {"x": ..., "y": ...} of one example. A random one gets a generator
    that `keys` seed: the seed, the step and the place in the batch. So what it draws does not
    depend on the devices, or on the seeds that train together.
    """
    shape = keys.shape[:-1]
    x = np.array(examples.x, copy=True).reshape(-1, *examples.x.shape[len(shape) :])
    y = np.array(examples.y, copy=True).reshape(-1, *examples.y.shape[len(shape) :])
    for i, key in enumerate(keys.reshape(-1, keys.shape[-1])):
        element = transform_one(transforms, {"x": x[i], "y": y[i]}, key.tolist())
        x[i], y[i] = element["x"], element["y"]
    return Batch(x.reshape(examples.x.shape), y.reshape(examples.y.shape))  # type: ignore[arg-type]


def transform_one(
    transforms: Sequence[Transform], element: dict[str, Any], key: Sequence[int]
) -> dict[str, Any]:
    """Return one example, changed by the transforms in turn.

    Raises:
        InputError: If a transform returns something of another shape.
    """
    for i, transform in enumerate(transforms):
        if isinstance(transform, grain.transforms.RandomMap):
            changed = transform.random_map(element, np.random.default_rng([*key, i]))
        else:
            changed = transform.map(element)
        for name, value in element.items():
            found = np.shape(changed[name]) if isinstance(changed, dict) and name in changed else ()
            if not isinstance(changed, dict) or name not in changed or found != np.shape(value):
                raise InputError(
                    f"transforms[{i}] {type(transform).__name__} must return a dict with "
                    f"{name!r} of shape {np.shape(value)}, got {_text(changed, name)}"
                )
        element = {name: np.asarray(changed[name]) for name in element}
    return element


def _text(changed: Any, name: str) -> str:
    if not isinstance(changed, dict):
        return type(changed).__name__
    return f"shape {np.shape(changed[name])}" if name in changed else f"{sorted(changed)}"


def check_transforms(transforms: Sequence[Any], split: Split) -> None:
    """Raise `InputError` unless the transforms are Grain's, and fit the first example."""
    for i, transform in enumerate(transforms):
        if not isinstance(transform, grain.transforms.Map | grain.transforms.RandomMap):
            raise InputError(
                f"transforms[{i}] must be a grain.transforms.Map or RandomMap, got "
                f"{type(transform).__name__}"
            )
    if transforms:
        row = np.arange(1)
        element = {"x": np.asarray(split.x[row])[0], "y": split.y[row][0]}
        transform_one(transforms, element, [0, 0, 0])


def describe_transforms(transforms: Sequence[Any]) -> list[str]:
    """Return class and fields of each transform as text, by which runs are told apart."""
    fields = [re.sub(r" at 0x\w+", "", repr(vars(transform))) for transform in transforms]
    return [f"{plain(t)} {text}" for t, text in zip(transforms, fields, strict=True)]
