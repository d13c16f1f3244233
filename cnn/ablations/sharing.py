"""Weight sharing: one kernel for all positions, one for each, or one for every n-th."""

from typing import Any, Literal

from flax import linen as nn

from cnn.ablations.ablated import ablation
from cnn.ablations.rewrite import Where, convert, require, rewrite
from cnn.errors import unknown_name
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled
from cnn.ops import Size

Bias = Literal["untied", "tied"]
"""Whether the positions that have a kernel of their own have a bias of their own, too."""


@ablation
def unshare(model: nn.Module, where: Where = None, bias: Bias = "untied") -> nn.Module:
    """Give every output position a kernel of its own: convolutions become locally connected.

    The positions have biases of their own, too, unless `bias` is "tied".
    """
    return _convert_all(model, ConvLocal, where, tied_bias=_tied(bias))


@ablation
def tile(model: nn.Module, period: Size, where: Where = None, bias: Bias = "untied") -> nn.Module:
    """Share kernels only between positions a multiple of `period` apart (Le et al. 2010).

    On a map smaller than the period every position has a kernel. `bias` is as in `unshare`.
    """
    return _convert_all(model, ConvTiled, where, period=period, tied_bias=_tied(bias))


@ablation
def share(model: nn.Module, where: Where = None) -> nn.Module:
    """Use one kernel for all positions: tiled and locally connected layers become convolutions."""
    return _convert_all(model, Conv, where)


def _tied(bias: Bias) -> bool:
    if bias not in ("untied", "tied"):
        raise unknown_name("bias", bias, ["untied", "tied"])
    return bias == "tied"


def _convert_all(model: nn.Module, kind: type[ConvBase], where: Where, **fields: Any) -> nn.Module:
    def rule(layer: ConvBase) -> ConvBase:
        supported = (Conv, ConvTiled, ConvLocal)
        require(layer, supported, "only Conv, ConvTiled and ConvLocal have one kernel per position")
        return convert(layer, kind, **fields)

    return rewrite(model, ConvBase, rule, where)
