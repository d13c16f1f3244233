"""Equal costs: the width at which one model costs as much as another."""

import math
from collections.abc import Sequence
from typing import Literal, NamedTuple

from flax import linen as nn

from cnn.errors import InputError, unknown_name
from cnn.geometry import describe
from cnn.layers import Concat, ConvBase, Dense, Flatten, GroupNorm, Maxout, Residual, TokenMixing
from cnn.layers.tree import children, join_path, leaf_layers, map_layers

Cost = Literal["parameters", "macs", "units"]


class Match(NamedTuple):
    """A model whose hidden features were multiplied by `width` so that its cost is the target."""

    model: nn.Module
    width: float
    cost: int
    target: int

    def __str__(self) -> str:
        off = self.cost / self.target - 1
        return f"width {self.width:.4g} costs {self.cost:,} of {self.target:,} ({off:+.1%})"


def match(
    model: nn.Module, to: nn.Module, input_shape: Sequence[int], by: Cost = "parameters"
) -> Match:
    """Scale the hidden features of `model` until it costs as nearly as possible what `to` costs.

    All hidden layers get the same factor. The last layer, whose features are the classes, stays.
    "macs" are multiply-accumulates, "units" the outputs of layers with weights.
    """
    target = _cost(to, input_shape, by)
    low, high = 0.0, 1.0
    while (at_high := _cost(scale_width(model, high), input_shape, by)) < target and high < 1024:
        low, high = high, 2 * high
    best = (abs(at_high - target), high, at_high)
    for _ in range(16):
        middle = (low + high) / 2
        cost = _cost(scale_width(model, middle), input_shape, by)
        best = min(best, (abs(cost - target), middle, cost))
        low, high = (middle, high) if cost < target else (low, middle)
    _, width, cost = best
    if not target / 2 <= cost <= 2 * target:
        raise InputError(
            f"no width of the model is near {target:,} {by}, the nearest, {width:.4g}, has "
            f"{cost:,}: match another model or another cost"
        )
    return Match(scale_width(model, width), width, cost, target)


def scale_width(model: nn.Module, width: float) -> nn.Module:
    """Return the model with `width` times the features, rounded, in all layers but the last.

    Depthwise convolutions stay depthwise. If others have groups, all features become multiples of
    these. `GroupNorm` gets the largest number of groups, up to its own, that divides its features.
    """
    weighted = {k: v for k, v in leaf_layers(model).items() if isinstance(v, ConvBase | Dense)}
    if not weighted:
        raise InputError("model must have a Conv or Dense of cnn.layers, whose width is a field")
    last = list(weighted)[-1]
    groups = {v.groups for v in weighted.values() if isinstance(v, ConvBase) and not _depthwise(v)}
    unit = math.lcm(*groups)
    scaled: dict[str, nn.Module] = {}

    def scale(name: str, layer: nn.Module, channels: int) -> int:
        """Scale a layer that gets so many channels; return how many it gives. 0 is unknown."""
        parts = [(join_path(name, part), child) for part, child in children(layer).items()]
        if isinstance(layer, Concat | Residual):
            outputs = [scale(path, part, channels) for path, part in parts]
            return outputs[0] if isinstance(layer, Residual) else sum(outputs) * all(outputs)
        for path, part in parts:
            channels = scale(path, part, channels)
        match layer:
            case GroupNorm() if channels:
                divisors = (
                    n for n in range(1, min(layer.groups, channels) + 1) if channels % n == 0
                )
                scaled[name] = layer.clone(groups=max(divisors))
            case ConvBase() | Dense() if name == last:
                return layer.features
            case TokenMixing():  # its channels are those of its input
                channels = channels or layer.features
                scaled[name] = layer.clone(features=channels)
            case ConvBase() if _depthwise(layer) and channels:
                scaled[name] = layer.clone(features=channels, groups=channels)
            case ConvBase() | Dense():
                channels = unit * max(1, round(width * layer.features / unit))
                scaled[name] = layer.clone(features=channels)
                if _depthwise(layer):
                    scaled[name] = layer.clone(features=channels, groups=channels)
            case Maxout():
                return channels // layer.group
            case Flatten():
                return 0
        return channels

    scale("", model, 0)
    return map_layers(model, lambda name, layer: scaled.get(name, layer))


def _depthwise(layer: nn.Module) -> bool:
    return isinstance(layer, ConvBase) and 1 < layer.groups == layer.features


def _cost(model: nn.Module, input_shape: Sequence[int], by: Cost) -> int:
    geometry = describe(model, input_shape, aligned=False)
    units = sum(math.prod(layer.shape) for layer in geometry.layers if layer.macs)
    costs = {"parameters": geometry.params, "macs": geometry.macs, "units": units}
    if by not in costs:
        raise unknown_name("cost", by, costs)
    return costs[by]
