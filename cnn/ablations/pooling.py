"""How maps become smaller."""

from __future__ import annotations

from typing import Literal, get_args

from flax import linen as nn

from cnn.ablations.rewrite import Where, change
from cnn.ablations.windows import refit
from cnn.errors import InputError, unknown_name
from cnn.layers import AvgPool, BlurPool, Chain, MaxPool
from cnn.ops import Size

Pooling = Literal["max", "avg", "blur", "stride", "none"]


def repool(model: nn.Module, kind: Pooling, where: Where = None) -> nn.Module:
    """Pool in another way, to maps of the same size.

    - "max", "avg": the largest value of each window, or the mean of it
    - "blur": the same at stride 1, then a binomial filter that has the stride (Zhang 2019)
    - "stride": the cell in the middle of each window
    - "none": no pooling: all that follows sees larger maps. Inside a branch this may leave
      branches of different sizes, which `init` then says.
    """
    if kind not in get_args(Pooling):
        raise unknown_name("pooling", kind, get_args(Pooling))
    if kind == "none":
        return change(model, (MaxPool, AvgPool, BlurPool), lambda _: Chain(()), where)

    def rule(layer: MaxPool | AvgPool | BlurPool) -> nn.Module:
        if isinstance(layer, BlurPool):
            if kind == "blur":
                return layer
            layer = MaxPool(layer.window, layer.strides, "SAME")  # as many positions
        strides = _strides(layer)
        match kind:
            case "max":
                return layer if isinstance(layer, MaxPool) else _as(MaxPool, layer)
            case "avg":
                return layer if isinstance(layer, AvgPool) else _as(AvgPool, layer)
            case "blur":
                return Chain((layer.clone(strides=1), BlurPool(3, strides)))
        one = 1 if isinstance(layer.window, int) else (1,) * len(layer.window)
        return refit(layer.clone(strides=strides), one, 1)

    return change(model, (MaxPool, AvgPool, BlurPool), rule, where)


def pool_window(model: nn.Module, window: int, where: Where = None) -> nn.Module:
    """Pool over windows of `window` cells per axis; strides and the sizes of maps stay.

    With windows larger than the stride, neighbours overlap. Raises `LayerError` where the window of
    a layer does not say the number of axes.
    """

    def rule(layer: MaxPool | AvgPool | BlurPool) -> nn.Module:
        if isinstance(layer, BlurPool):
            return layer.clone(window=window)
        every = window if isinstance(layer.window, int) else (window,) * len(layer.window)
        return refit(layer.clone(strides=_strides(layer)), every, getattr(layer, "dilation", 1))

    return change(model, (MaxPool, AvgPool, BlurPool), rule, where)


def _strides(layer: MaxPool | AvgPool) -> Size:
    return layer.window if layer.strides is None else layer.strides


def _as(kind: type[MaxPool] | type[AvgPool], layer: MaxPool | AvgPool) -> nn.Module:
    if getattr(layer, "dilation", 1) != 1:
        raise InputError(f"dilation {layer.dilation} is known to max-pooling only: take it out")
    return kind(layer.window, layer.strides, layer.padding)
