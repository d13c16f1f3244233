"""Attention in the place of convolution."""

from flax import linen as nn

from cnn.ablations.ablated import ablation
from cnn.ablations.rewrite import Where, convert, require, rewrite
from cnn.errors import InputError
from cnn.layers import Conv, ConvBase, PositionalAttention


@ablation
def attend(
    model: nn.Module, locality: float = 12.0, gate: float = 12.0, where: Where = None
) -> nn.Module:
    """Let convolutions become attention, one head per tap, that starts as the convolution.

    `locality` is the strength of the positional scores, and `gate` the logit of the share of
    position (`PositionalAttention`). `lift` gives the attention the kernel of a convolution. Their
    outputs then differ by about e^−`locality` + e^−`gate` of their size.
    """

    def rule(layer: ConvBase) -> ConvBase:
        require(layer, (Conv,), "only a Conv has one kernel for all positions; `share` it first")
        if layer.groups != 1:
            raise InputError(f"groups must be 1, got {layer.groups}: `group` by 1 first")
        return convert(layer, PositionalAttention, locality=locality, gate=gate)

    return rewrite(model, ConvBase, rule, where)
