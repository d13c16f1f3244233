"""Weight sharing: one kernel for all positions, one for each, or one for every n-th."""

from flax import linen as nn

from cnn.ablations.ablated import ablation
from cnn.ablations.rewrite import Where, convert, require, rewrite
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled
from cnn.ops import Size


@ablation
def unshare(model: nn.Module, where: Where = None) -> nn.Module:
    """Give every output position a kernel of its own: convolutions become locally connected."""
    return _convert_all(model, ConvLocal, where)


@ablation
def tile(model: nn.Module, period: Size, where: Where = None) -> nn.Module:
    """Share kernels only between positions a multiple of `period` apart (Le et al. 2010)."""
    return _convert_all(model, ConvTiled, where, period=period)


@ablation
def share(model: nn.Module, where: Where = None) -> nn.Module:
    """Use one kernel for all positions: tiled and locally connected layers become convolutions."""
    return _convert_all(model, Conv, where)


def _convert_all(model: nn.Module, kind: type[ConvBase], where: Where, **fields: Size) -> nn.Module:
    def rule(layer: ConvBase) -> ConvBase:
        supported = (Conv, ConvTiled, ConvLocal)
        require(layer, supported, "only Conv, ConvTiled and ConvLocal have one kernel per position")
        return convert(layer, kind, **fields)

    return rewrite(model, ConvBase, rule, where)
