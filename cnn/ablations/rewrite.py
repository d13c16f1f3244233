"""Changing chosen layers of a model value, and nothing else."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

from flax import linen as nn

from cnn.errors import InputError, LayerError, unknown_name
from cnn.layers import ConvBase
from cnn.layers.tree import leaves, replace

Where = Callable[[str, nn.Module], bool] | Iterable[str] | None
"""Which layers: a predicate of name and layer, or names, or `None` for all that can be meant.

A name is a path among the parameters, "layers_3/branches_1/layers_0", or the beginning of one,
"layers_3", for all that is inside.
"""


def change(
    model: nn.Module,
    kinds: type[nn.Module] | tuple[type[nn.Module], ...],
    rule: Callable[[Any], nn.Module],
    where: Where = None,
) -> nn.Module:
    """Return `model` with `rule(layer)` in the place of the layers of `kinds` that `where` chooses.

    Raises `LayerError` where the rule raises `InputError` for a layer, or where a name chooses
    no layer of these kinds; `InputError` for an unknown name, or if there is nothing to change.
    """
    named = leaves(model)
    able = [name for name, layer in named.items() if isinstance(layer, kinds)]
    if where is None:
        chosen = set(able)
    elif callable(where):
        chosen = {name for name in able if where(name, named[name])}
    else:
        chosen = _by_name(named, [where] if isinstance(where, str) else where, kinds)
    if not able:
        raise InputError("the model has no layer that this ablation changes: leave it out")
    if not chosen:
        raise InputError(
            f"where chooses no layer that this ablation changes: choose from {', '.join(able)}"
        )

    def apply(name: str, layer: nn.Module) -> nn.Module:
        if name not in chosen or not isinstance(layer, kinds):
            return layer
        try:
            return rule(layer)
        except InputError as error:
            raise LayerError(name, str(error)) from None

    return replace(model, apply)


def _by_name(
    named: dict[str, nn.Module],
    wanted: Iterable[str],
    kinds: type[nn.Module] | tuple[type[nn.Module], ...],
) -> set[str]:
    chosen: set[str] = set()
    for name in wanted:
        inside = [path for path in named if path == name or path.startswith(name + "/")]
        if not inside:
            raise unknown_name("layer", name, named)
        fit = [path for path in inside if isinstance(named[path], kinds)]
        if not fit:
            raise LayerError(
                name,
                f"a {type(named[inside[0]]).__name__} is not among what this ablation changes: "
                f"choose from {', '.join(k for k, v in named.items() if isinstance(v, kinds))}",
            )
        chosen.update(fit)
    return chosen


def with_fields(layer: ConvBase, kind: type[ConvBase], **fields: Any) -> ConvBase:
    """Return a `kind` that has the windowed fields of `layer`, except for the `fields` given."""
    kept = {f.name: getattr(layer, f.name) for f in dataclasses.fields(ConvBase)}
    del kept["parent"]
    return kind(**kept | fields)


def need(layer: ConvBase, kinds: tuple[type[ConvBase], ...], why: str) -> None:
    """Raise `InputError` with the reason unless `layer` is one of `kinds`."""
    if not isinstance(layer, kinds):
        raise InputError(f"{type(layer).__name__} cannot be changed in this way: {why}")
