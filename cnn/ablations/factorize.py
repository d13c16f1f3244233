"""Factorisation: one kernel as a product of smaller ones."""

from __future__ import annotations

from flax import linen as nn

from cnn.ablations.rewrite import Where, change, need, with_fields
from cnn.ablations.windows import axes, span
from cnn.errors import InputError
from cnn.layers import Chain, Conv, ConvBase, ConvLocal, ConvTiled, SeparableConv
from cnn.ops import resolve_padding


def separate(model: nn.Module, multiplier: int = 1, where: Where = None) -> nn.Module:
    """Factor convolutions into space and channels (`SeparableConv`).

    A 1×1 convolution, a depthwise one and a `SeparableConv` are factors already, and stay.
    Raises `LayerError` for other groups, and for a layer that is not shared.
    """

    def rule(layer: ConvBase) -> ConvBase:
        if isinstance(layer, SeparableConv):
            return layer.clone(multiplier=multiplier)
        need(layer, (Conv,), "the factors of a kernel must be shared; `share` it first")
        if _is_pointwise(layer) or layer.groups == layer.features:
            return layer
        if layer.groups > 1:
            raise InputError(f"groups {layer.groups} stand in the way: `group` by 1 first")
        return with_fields(layer, SeparableConv, multiplier=multiplier)

    return change(model, ConvBase, rule, where)


def group(model: nn.Module, groups: int, where: Where = None) -> nn.Module:
    """Let every output channel see only its group of the input channels.

    `groups` must divide the channels of every chosen layer; where it does not, `init` says which
    (the first layer of a network on grey images, for instance: leave it out by `where`).
    Raises `LayerError` where it does not divide the features, and for layers without groups.
    """

    def rule(layer: ConvBase) -> ConvBase:
        need(layer, (Conv, ConvTiled, ConvLocal), "its channels have no groups")
        if groups < 1 or layer.features % groups:
            raise InputError(f"groups {groups} does not divide features {layer.features}")
        return layer.clone(groups=groups)

    return change(model, ConvBase, rule, where)


def factorize(
    model: nn.Module, activation: nn.Module | None = None, where: Where = None
) -> nn.Module:
    """Replace a window of k taps by (k − 1) / 2 windows of 3, one after another.

    All that the k-tap window saw is seen: the stride is that of the last, the padding that of the
    first, so that without an `activation` between them the stack is exactly one convolution with a
    window of k. Windows of 1 and 3 stay. ("SAME" under a stride, whose padding depends on the
    input, is left to each layer of the stack; borders then differ.)
    Raises `LayerError` for an even window, and for a layer that is not a `Conv`.
    """

    def rule(layer: ConvBase) -> nn.Module:
        rank = axes(layer.window, layer.strides, layer.dilation, layer.padding)
        window = span(layer.window, 1, rank)
        if max(window) <= 3:
            return layer
        need(layer, (Conv,), "only a convolution is a product of convolutions; `share` it first")
        if any(k % 2 == 0 for k in window):
            raise InputError(f"window {layer.window} is even: `rewindow` it to an odd one first")
        padding, strided = layer.padding, span(layer.strides, 1, rank) != (1,) * rank
        first = rest = padding
        if not (padding in ("SAME", "SAME_LOWER") and strided):
            # Any size that holds the window will do: at stride 1 the padding does not depend on it.
            size = span(layer.window, layer.dilation, rank)
            first = resolve_padding(padding, size, layer.window, 1, layer.dilation)
            rest = "VALID"
        between = () if activation is None else (activation,)
        count = max(window) // 2
        stack: list[nn.Module] = []
        for i in range(count):
            last = i == count - 1
            link = layer.clone(
                window=tuple(3 if i < k // 2 else 1 for k in window),
                strides=layer.strides if last else 1,
                padding=rest if i else first,
                scale=layer.scale if last or between else 1.0,
            )
            stack += [*(between if i else ()), link]
        return Chain(tuple(stack))

    return change(model, ConvBase, rule, where)


def bottleneck(
    model: nn.Module, channels: int, activation: nn.Module | None = None, where: Where = None
) -> nn.Module:
    """Mix the channels down to `channels` by a 1×1 convolution in front, as Inception does.

    `activation` stands between the two (Inception has a ReLU there); without one, the pair is one
    convolution whose kernel has at most that rank over the input channels. 1×1 convolutions stay.
    Raises `LayerError` for layers with groups.
    """

    def rule(layer: ConvBase) -> nn.Module:
        if _is_pointwise(layer):
            return layer
        if layer.groups > 1:
            raise InputError(f"groups {layer.groups} count input channels: `group` by 1 first")
        ones = 1 if isinstance(layer.window, int) else (1,) * len(layer.window)
        scale = 1.0 if activation is None else layer.scale
        front = Conv(channels, ones, use_bias=activation is not None, scale=scale)
        return Chain((front, *([] if activation is None else [activation]), layer))

    return change(model, ConvBase, rule, where)


def _is_pointwise(layer: ConvBase) -> bool:
    window = (layer.window,) if isinstance(layer.window, int) else layer.window
    return set(window) == {1}
