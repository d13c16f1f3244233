"""A model value as a tree: its layers by name, and the same tree with other layers in it.

A layer's name is its path among the parameters, "layers_3/branches_1/layers_0", so that
`variables["params"]["layers_3"]["branches_1"]["layers_0"]` are its weights.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
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


Shape = tuple[int, ...]


def shapes(model: nn.Module, input_shape: Sequence[int]) -> dict[str, tuple[Shape, Shape]]:
    """Return the input and output shape of every leaf, without the batch; nothing is computed.

    `input_shape` is `(*spatial, channels)`. Raises `LayerError` where the model does not fit it.
    """
    names, seen = leaves(model).keys(), {}

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        name = "/".join(context.module.path)
        if context.method_name == "__call__" and name in names:
            seen[name] = (args[0].shape[1:], y.shape[1:])
        return y

    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    with nn.intercept_methods(note):
        jax.eval_shape(model.init, jax.random.key(0), x)
    return seen


def join(path: str, name: str) -> str:
    """Return the name of the part `name` of the layer at `path`."""
    return f"{path}/{name}" if path else name
