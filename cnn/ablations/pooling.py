"""Pooling: another kind, or another window."""

from typing import Literal, get_args

import numpy as np
from flax import linen as nn

from cnn.ablations.ablated import ablation
from cnn.ablations.rewrite import Where, rewrite
from cnn.ablations.windows import resize_window, same_grid, strides_of
from cnn.errors import InputError, unknown_name
from cnn.layers import AvgPool, BlurPool, Chain, MaxPool

Pooling = Literal["max", "avg", "blur", "stride", "none"]
POOLS = (MaxPool, AvgPool, BlurPool)


@ablation
def repool(model: nn.Module, kind: Pooling, where: Where = None) -> nn.Module:
    """Replace the pooling layers by another kind, with outputs of the same size.

    - "max", "avg": the maximum or the mean of each window
    - "blur": the present pooling at stride 1, then a strided binomial filter (Zhang 2019)
    - "stride": the centre of each window
    - "none": no pooling, so later maps are larger. If the branches of a `Concat` then differ in
      size, `init` raises an error.
    """
    if kind not in get_args(Pooling):
        raise unknown_name("pooling", kind, get_args(Pooling))

    def rule(layer: MaxPool | AvgPool | BlurPool) -> nn.Module:
        if kind == "none":
            return Chain((), parent=None)
        if isinstance(layer, BlurPool):
            if kind == "blur":
                return layer
            # The centres of the blur are every stride-th position, from the first on.
            layer = MaxPool(layer.window, layer.strides, ("SAME", 1, layer.strides), parent=None)
        strides = strides_of(layer)
        match kind:
            case "max":
                return layer if isinstance(layer, MaxPool) else _convert(layer, MaxPool)
            case "avg":
                return layer if isinstance(layer, AvgPool) else _convert(layer, AvgPool)
            case "blur":
                # A window at stride 1 for each position, of which the blur takes every stride-th.
                dense = layer.clone(strides=1, padding=same_grid(layer))
                return Chain((dense, BlurPool(3, strides, parent=None)), parent=None)
        one = 1 if isinstance(layer.window, int) else (1,) * len(layer.window)
        return resize_window(layer.clone(strides=strides), one, 1)

    return rewrite(model, POOLS, rule, where)


@ablation
def pool_window(model: nn.Module, window: int, where: Where = None) -> nn.Module:
    """Pool over windows of `window` positions per axis; strides and output sizes stay.

    Windows larger than the stride overlap.
    """

    def rule(layer: MaxPool | AvgPool | BlurPool) -> nn.Module:
        if isinstance(layer, BlurPool):
            return layer.clone(window=window)
        windows = window if isinstance(layer.window, int) else (window,) * len(layer.window)
        dilation = getattr(layer, "dilation", 1)
        return resize_window(layer.clone(strides=strides_of(layer)), windows, dilation)

    return rewrite(model, POOLS, rule, where)


def _convert(layer: MaxPool | AvgPool, kind: type[MaxPool] | type[AvgPool]) -> nn.Module:
    if np.max(getattr(layer, "dilation", 1)) > 1:
        raise InputError(f"only MaxPool has a dilation, got {layer.dilation}: set it to 1")
    return kind(layer.window, layer.strides, layer.padding, parent=None)
