"""Equal costs: the width at which one model costs what another does."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from flax import linen as nn

from cnn.errors import InputError, unknown_name
from cnn.geometry import describe
from cnn.layers import ConvBase, Dense, GroupNorm
from cnn.layers.tree import leaves, replace

Cost = Literal["parameters", "macs", "units"]


@dataclass(frozen=True)
class Match:
    """The model of matched width, and what it costs beside what it was to cost."""

    model: nn.Module
    width: float
    """Factor on the hidden features of the model that was given."""
    reached: int
    wanted: int

    def __str__(self) -> str:
        off = self.reached / self.wanted - 1
        return f"width {self.width:.4g} costs {self.reached:,} of {self.wanted:,} ({off:+.1%})"


def match(
    model: nn.Module, to: nn.Module, input_shape: Sequence[int], by: Cost = "parameters"
) -> Match:
    """Scale the hidden features of `model` until it costs what `to` does, as nearly as it can.

    All hidden layers get the same factor; the last layer, whose features are the classes, stays.
    Costs are "parameters", "macs" (multiply-accumulates) or "units" (outputs of layers that have
    weights), on inputs of `input_shape`, without the batch. Depthwise convolutions stay depthwise.
    Raises `InputError` where no width comes within a factor of two, and for an unknown cost.
    """
    wanted = _cost(to, input_shape, by)
    low, high = 0.0, 1.0
    while (at_high := _cost(scale(model, high), input_shape, by)) < wanted and high < 1024:
        low, high = high, 2 * high
    best = (abs(at_high - wanted), high, at_high)
    for _ in range(16):
        middle = (low + high) / 2
        cost = _cost(scale(model, middle), input_shape, by)
        best = min(best, (abs(cost - wanted), middle, cost))
        low, high = (middle, high) if cost < wanted else (low, middle)
    _, width, reached = best
    if not wanted / 2 <= reached <= 2 * wanted:
        raise InputError(
            f"no width of the model comes near {wanted:,} {by}; the nearest, {width:.4g}, has "
            f"{reached:,}: match another model, or by another cost"
        )
    return Match(scale(model, width), width, reached, wanted)


def scale(model: nn.Module, width: float) -> nn.Module:
    """Return the model with `width` times the features, rounded, in all layers but the last.

    Depthwise convolutions stay so. Where others have groups, all features become multiples of
    these; `GroupNorm` takes the largest number of groups, up to its own, that divides the features
    before it.
    """
    weighty = {k: v for k, v in leaves(model).items() if isinstance(v, (ConvBase, Dense))}
    last = list(weighty)[-1]
    groups = {v.groups for v in weighty.values() if isinstance(v, ConvBase) and not _depthwise(v)}
    unit = math.lcm(*groups)
    features = 0

    def wider(name: str, layer: nn.Module) -> nn.Module:
        nonlocal features
        if isinstance(layer, GroupNorm) and features:
            divides = [n for n in range(1, layer.groups + 1) if features % n == 0]
            return layer.clone(groups=divides[-1])
        if name not in weighty or name == last:
            return layer
        features = unit * max(1, round(width * layer.features / unit))
        changed = layer.clone(features=features)
        return changed.clone(groups=features) if _depthwise(layer) else changed

    return replace(model, wider)


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, ConvBase) and 1 < layer.groups == layer.features


def _cost(model: nn.Module, input_shape: Sequence[int], by: Cost) -> int:
    geometry = describe(model, input_shape, aligned=False)
    match by:
        case "parameters":
            return geometry.params
        case "macs":
            return geometry.macs
        case "units":
            return sum(math.prod(layer.shape) for layer in geometry.layers if layer.macs)
    raise unknown_name("cost", by, ["parameters", "macs", "units"])
