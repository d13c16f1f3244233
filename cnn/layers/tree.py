"""The tree of layers in a model: list the layers by name, and replace them.

The name of a layer is its path among the parameters. The weights of
"layers_3/branches_1/layers_0" are `variables["params"]["layers_3"]["branches_1"]["layers_0"]`.
"""

import dataclasses
from collections.abc import Callable
from typing import Any, TypeVar

from flax import linen as nn

Model = TypeVar("Model", nn.Module, dict[str, nn.Module])
"""A module, or modules by name."""


def children(model: nn.Module) -> dict[str, nn.Module]:
    """Return the modules among the fields of `model`, by the names of their parameters."""
    found = {}
    for field in dataclasses.fields(model):
        value = getattr(model, field.name)
        if field.name != "parent" and isinstance(value, nn.Module):
            found[field.name] = value
        elif isinstance(value, tuple):
            modules = enumerate(value)
            found |= {f"{field.name}_{i}": v for i, v in modules if isinstance(v, nn.Module)}
    return found


def leaf_layers(model: Model) -> dict[str, nn.Module]:
    """Return by name the layers that contain no other layers, in the order of the fields."""
    found: dict[str, nn.Module] = {}
    map_layers(model, lambda name, layer: found.setdefault(name, layer))
    return found


def map_layers(model: Model, f: Callable[[str, nn.Module], nn.Module], path: str = "") -> Model:
    """Return `model` with each leaf layer replaced by `f(name, layer)`."""
    if isinstance(model, dict):
        new = {name: map_layers(part, f, join_path(path, name)) for name, part in model.items()}
        return type(model)(new)
    inside = children(model)
    if not inside:
        return f(path, model)
    new = {name: map_layers(child, f, join_path(path, name)) for name, child in inside.items()}
    fields: dict[str, Any] = {}
    for name in (field.name for field in dataclasses.fields(model) if field.name != "parent"):
        value = getattr(model, name)
        if isinstance(value, tuple):
            value = tuple(new.get(f"{name}_{i}", v) for i, v in enumerate(value))
        fields[name] = new.get(name, value)
    return model.clone(**fields)


def join_path(path: str, name: str) -> str:
    """Return the name of the child `name` of the layer at `path`, which is "" at the root."""
    return f"{path}/{name}" if path else name
