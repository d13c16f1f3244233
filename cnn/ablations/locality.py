"""Locality: dense layers between maps, with and without a radius."""

from flax import linen as nn

from cnn.ablations.ablated import ablation
from cnn.ablations.rewrite import Where, convert, require, rewrite
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled, DenseSpatial, TokenMixing


@ablation
def densify(model: nn.Module, where: Where = None) -> nn.Module:
    """Let every output position see every input position: convolutions become `DenseSpatial`.

    Groups are lost: a dense layer has none.
    """
    return localize(model, None, where)


@ablation
def localize(model: nn.Module, radius: int | None, where: Where = None) -> nn.Module:
    """Let every output position see the inputs within `radius`, by weights of its own.

    The distance is measured per axis from the centre of the layer's window. With `radius=None`
    there is no limit (`densify`).
    """

    def rule(layer: ConvBase) -> ConvBase:
        supported = (Conv, ConvTiled, ConvLocal, DenseSpatial, TokenMixing)
        require(layer, supported, "it has two kernels, and none of them between maps")
        mode = "circular" if layer.padding_mode == "circular" else "zeros"
        return convert(layer, DenseSpatial, groups=1, padding_mode=mode, radius=radius)

    return rewrite(model, ConvBase, rule, where)
