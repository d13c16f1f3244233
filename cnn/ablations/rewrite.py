"""Apply a rule to chosen layers of a model."""

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from flax import linen as nn

from cnn.errors import InputError, LayerError, unknown_name
from cnn.layers import ConvBase, ConvGroup
from cnn.layers.tree import leaf_layers, map_layers

Where = Callable[[str, nn.Module], bool] | int | str | Iterable[str | int] | None
"""Which layers to change: a predicate `(name, layer) -> bool`, names, numbers, or `None` for all.

A name is a path among the parameters, "layers_3/branches_1/layers_0", or the beginning of one,
"layers_3", for all layers inside. A number counts the layers that the ablation can change, from 0
on; −1 is the last one.
"""

Kinds = type[nn.Module] | tuple[type[nn.Module], ...]


def rewrite(
    model: nn.Module, kinds: Kinds, rule: Callable[[Any], nn.Module], where: Where = None
) -> nn.Module:
    """Return `model` with each layer of `kinds` that `where` selects replaced by `rule(layer)`.

    An `InputError` of the rule becomes a `LayerError`, which names the layer.
    """
    layers = leaf_layers(model)
    candidates = [name for name, layer in layers.items() if isinstance(layer, kinds)]
    if not candidates:
        raise InputError("the model has no layer that this ablation changes: leave it out")
    if where is None:
        selected = set(candidates)
    elif callable(where):
        selected = {name for name in candidates if where(name, layers[name])}
    else:
        names = [where] if isinstance(where, str | int) else where
        selected = {path for name in names for path in _named(name, layers, candidates)}
    if not selected:
        raise InputError(f"where selects no layer to change: choose from {', '.join(candidates)}")

    def apply(name: str, layer: nn.Module) -> nn.Module:
        if name not in selected:
            return layer
        try:
            return rule(layer)
        except InputError as error:
            raise LayerError(name, str(error)) from None

    return map_layers(model, apply)


def _named(name: str | int, layers: dict[str, nn.Module], candidates: list[str]) -> list[str]:
    """Return the candidate of a number, or those called `name`, or inside the layer called so."""
    if isinstance(name, int):
        if not -len(candidates) <= name < len(candidates):
            raise InputError(
                f"where must be a number below {len(candidates)}, got {name}: the layers to "
                f"change are {', '.join(candidates)}"
            )
        return [candidates[name]]
    inside = [
        path
        for path in layers
        if name in (path, path.partition("#")[0]) or path.startswith(name + "/")
    ]
    if not inside:
        raise unknown_name("layer", name, layers)
    selected = [path for path in inside if path in candidates]
    if not selected:
        kind = type(layers[inside[0]]).__name__
        raise LayerError(
            name, f"this ablation does not change {kind}: choose from {', '.join(candidates)}"
        )
    return selected


def convert(layer: ConvBase, kind: type[ConvBase], **fields: Any) -> ConvBase:
    """Return a `kind` with the fields of `ConvBase` that `layer` has, and with `fields`."""
    kept = {f.name: getattr(layer, f.name) for f in dataclasses.fields(ConvBase)}
    return kind(**kept | fields)


def require(layer: ConvBase, kinds: tuple[type[ConvBase], ...], reason: str) -> None:
    """Raise `InputError` with `reason` unless `layer` is one of `kinds`."""
    if not isinstance(layer, kinds):
        if isinstance(layer, ConvGroup):
            reason = "its kernel is shared over a group; `desymmetrize` it first"
        raise InputError(f"this ablation does not apply to {type(layer).__name__}: {reason}")
