"""Weight sharing: from one kernel for all positions to one for each, and back."""

from __future__ import annotations

from flax import linen as nn

from cnn.ablations.rewrite import Where, change, need, with_fields
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled
from cnn.ops import Size

_SHARE = (Conv, ConvTiled, ConvLocal)
_WHY = "only Conv, ConvTiled and ConvLocal say at which positions a kernel is shared"


def unshare(model: nn.Module, where: Where = None) -> nn.Module:
    """Give every output position a kernel of its own: convolutions become locally connected.

    Raises `LayerError` for a `SeparableConv` or `DenseSpatial`.
    """
    return _share_as(model, ConvLocal, where)


def tile(model: nn.Module, period: Size, where: Where = None) -> nn.Module:
    """Share the kernel with every `period`-th position only (Le et al. 2010).

    Raises `LayerError` for a `SeparableConv` or `DenseSpatial`.
    """
    return _share_as(model, ConvTiled, where, period=period)


def share(model: nn.Module, where: Where = None) -> nn.Module:
    """Use one kernel for all positions: tiled and locally connected layers become convolutions.

    Raises `LayerError` for a `SeparableConv` or `DenseSpatial`.
    """
    return _share_as(model, Conv, where)


def _share_as(model: nn.Module, kind: type[ConvBase], where: Where, **fields: Size) -> nn.Module:
    def rule(layer: ConvBase) -> ConvBase:
        need(layer, _SHARE, _WHY)
        return with_fields(layer, kind, **fields)

    return change(model, ConvBase, rule, where)
