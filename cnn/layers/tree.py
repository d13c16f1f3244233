"""A model value as a tree: its layers by name, and the same tree with other layers in it.

A layer's name is its path among the parameters, "layers_3/branches_1/layers_0", so that
`variables["params"]["layers_3"]["branches_1"]["layers_0"]` are its weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

from flax import linen as nn


def parts(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules among the fields of `model`, by the names that their parameters have."""
    found = {}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.name != "parent" and isinstance(value, nn.Module):
            found[field.name] = value
        elif isinstance(value, tuple):
            modules = enumerate(value)
            found |= {f"{field.name}_{i}": v for i, v in modules if isinstance(v, nn.Module)}
    return found


def leaves(model: nn.Module, path: str = "") -> dict[str, nn.Module]:
    """Return by name the layers that are not made of layers, in the order of the fields."""
    inside = parts(model)
    if not inside:
        return {path: model}
    return {
        k: v for name, part in inside.items() for k, v in leaves(part, join(path, name)).items()
    }


def replace(
    model: nn.Module, change: Callable[[str, nn.Module], nn.Module], path: str = ""
) -> nn.Module:
    """Return the tree with `change(name, layer)` in the place of each of its leaves."""
    inside = parts(model)
    if not inside:
        return change(path, model)
    made = {name: replace(part, change, join(path, name)) for name, part in inside.items()}
    fields: dict[str, Any] = {}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.name in made:
            fields[field.name] = made[field.name]
        elif isinstance(value, tuple) and field.name != "parent":
            fields[field.name] = tuple(
                made.get(f"{field.name}_{i}", v) for i, v in enumerate(value)
            )
    return model.clone(**fields)


def join(path: str, name: str) -> str:
    """Return the name of the part `name` of the layer at `path`."""
    return f"{path}/{name}" if path else name
