"""Factorization: one kernel as a product of smaller ones."""

from flax import linen as nn

from cnn.ablations.ablated import ablation
from cnn.ablations.rewrite import Where, convert, require, rewrite
from cnn.ablations.windows import num_axes, span
from cnn.errors import InputError
from cnn.layers import Chain, Conv, ConvBase, ConvGroup, ConvLocal, ConvTiled, SeparableConv
from cnn.ops import resolve_padding
from cnn.ops.checks import check_groups

MAX_WINDOW = 1001
"""The largest window that `factorize` replaces, by a stack of 500 layers."""


@ablation
def separate(model: nn.Module, multiplier: int = 1, where: Where = None) -> nn.Module:
    """Factor convolutions into a depthwise and a pointwise one (`SeparableConv`).

    1×1 and depthwise convolutions stay as they are. Others must have one group and a shared kernel.
    """

    def rule(layer: ConvBase) -> ConvBase:
        if isinstance(layer, SeparableConv):
            return layer.clone(multiplier=multiplier)
        require(layer, (Conv,), "a SeparableConv shares its kernels; `share` it first")
        if _is_pointwise(layer) or layer.groups == layer.features:
            return layer
        if layer.groups > 1:
            raise InputError(f"groups must be 1, got {layer.groups}: `group` by 1 first")
        return convert(layer, SeparableConv, multiplier=multiplier)

    return rewrite(model, ConvBase, rule, where)


@ablation
def group(model: nn.Module, groups: int, where: Where = None) -> nn.Module:
    """Let every output channel see only its group of the input channels.

    `groups` must divide the input channels of every selected layer, else `init` raises an error:
    use `where` to leave out the first layer of a network on grey images, for instance.
    """

    def rule(layer: ConvBase) -> ConvBase:
        require(layer, (Conv, ConvTiled, ConvLocal), "its channels have no groups")
        check_groups(groups, {"features": layer.features})
        return layer.clone(groups=groups)

    return rewrite(model, ConvBase, rule, where)


@ablation
def factorize(
    model: nn.Module, activation: nn.Module | None = None, where: Where = None
) -> nn.Module:
    """Replace a window of k by a stack of (k − 1) / 2 windows of 3.

    The stack sees the same inputs: its last layer has the stride, its first the padding. Without
    an `activation` between its layers, it equals one convolution with a window of k. Windows of 1
    and 3 stay. ("SAME" with a stride depends on the input size, so every layer of the stack pads
    for itself, and the border differs.) Windows must be odd, and layers a `Conv`.
    """

    def rule(layer: ConvBase) -> nn.Module:
        rank = num_axes(layer.window, layer.strides, layer.dilation, layer.padding)
        window = span(layer.window, 1, rank)
        if max(window) <= 3:
            return layer
        require(layer, (Conv,), "only a Conv is a product of convolutions; `share` it first")
        if max(window) > MAX_WINDOW:
            raise InputError(f"window must be at most {MAX_WINDOW}, got {layer.window}")
        if any(k % 2 == 0 for k in window):
            raise InputError(f"window must be odd, got {layer.window}: use `rewindow` first")
        first = rest = layer.padding
        if first not in ("SAME", "SAME_LOWER") or span(layer.strides, 1, rank) == (1,) * rank:
            # At stride 1 the padding does not depend on the size: any that fits the window will do.
            size = span(layer.window, layer.dilation, rank)
            first = resolve_padding(layer.padding, size, layer.window, 1, layer.dilation)
            rest = "VALID"
        between = () if activation is None else (activation,)
        stack: list[nn.Module] = []
        for i in range(count := max(window) // 2):
            windows = tuple(3 if i < k // 2 else 1 for k in window)
            conv = layer.clone(window=windows, padding=rest if i else first)
            if i < count - 1:
                conv = conv.clone(strides=1, scale=layer.scale if between else 1.0)
            stack += [*(between if i else ()), conv]
        return Chain(tuple(stack), parent=None)

    return rewrite(model, ConvBase, rule, where)


@ablation
def bottleneck(
    model: nn.Module, channels: int, activation: nn.Module | None = None, where: Where = None
) -> nn.Module:
    """Put a 1×1 convolution to `channels` channels in front, as in Inception.

    `activation` comes between the two, in Inception a ReLU. Without one, the pair equals one
    convolution whose kernel has at most rank `channels` over the input channels. 1×1 convolutions
    stay; others must have one group.
    """

    def rule(layer: ConvBase) -> nn.Module:
        if _is_pointwise(layer):
            return layer
        if isinstance(layer, ConvGroup):
            require(layer, (Conv,), "the convolution in front of it has no symmetry")
        if layer.groups > 1:
            raise InputError(f"groups must be 1, got {layer.groups}: `group` by 1 first")
        ones = 1 if isinstance(layer.window, int) else (1,) * len(layer.window)
        scale = 1.0 if activation is None else layer.scale
        front = Conv(channels, ones, use_bias=activation is not None, scale=scale, parent=None)
        return Chain((front, *([] if activation is None else [activation]), layer), parent=None)

    return rewrite(model, ConvBase, rule, where)


def _is_pointwise(layer: ConvBase) -> bool:
    window = (layer.window,) if isinstance(layer.window, int) else layer.window
    return set(window) == {1}
