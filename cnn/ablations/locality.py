"""Locality without a convolution, and neither."""

from __future__ import annotations

from flax import linen as nn

from cnn.ablations.rewrite import Where, change, need, with_fields
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled, DenseSpatial


def densify(model: nn.Module, where: Where = None) -> nn.Module:
    """Let every output position see every input position: convolutions become dense tensors.

    Groups go too: a dense layer has none. Raises `LayerError` for a `SeparableConv`.
    """
    return localize(model, None, where)


def localize(model: nn.Module, radius: int | None, where: Where = None) -> nn.Module:
    """Let every output position see, by weights of its own, the inputs at most `radius` away.

    The distance is counted per axis from the centre of the window that stood there. No radius
    means all inputs (`densify`). Raises `LayerError` for a `SeparableConv`.
    """

    def rule(layer: ConvBase) -> ConvBase:
        dense = (Conv, ConvTiled, ConvLocal, DenseSpatial)
        need(layer, dense, "it is two layers in one, with no kernel between maps")
        mode = "circular" if layer.padding_mode == "circular" else "zeros"
        return with_fields(layer, DenseSpatial, groups=1, padding_mode=mode, radius=radius)

    return change(model, ConvBase, rule, where)
