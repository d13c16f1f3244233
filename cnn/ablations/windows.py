"""Window, dilation and padding of convolutions."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from flax import linen as nn

from cnn.ablations.ablated import ablation
from cnn.ablations.rewrite import Where, require, rewrite
from cnn.errors import InputError
from cnn.layers import (
    AvgPool,
    Conv,
    ConvBase,
    ConvGroup,
    ConvLocal,
    ConvTiled,
    MaxPool,
    SeparableConv,
)
from cnn.ops import Padding, PaddingMode, Size, per_axis, resolve_padding
from cnn.ops.window import dilated, recentre

WINDOWED = (ConvGroup, Conv, ConvTiled, ConvLocal, SeparableConv)


@ablation
def rewindow(model: nn.Module, window: Size, where: Where = None) -> nn.Module:
    """Give every convolution another window. Its centre and the output size stay.

    Padding makes up for the difference; where there is none to take away, it becomes negative.
    Where that needs the number of axes, `window` must have one number per axis.
    """

    def rule(layer: ConvBase) -> nn.Module:
        require(layer, WINDOWED, "it sees the whole map; `localize` gives it a radius")
        return resize_window(layer, window, layer.dilation)

    return rewrite(model, ConvBase, rule, where)


@ablation
def dilate(model: nn.Module, rate: Size, where: Where = None) -> nn.Module:
    """Set the dilation of every convolution. Centre and output size stay, as in `rewindow`."""

    def rule(layer: ConvBase) -> nn.Module:
        require(layer, WINDOWED, "it sees the whole map, without a window to dilate")
        return resize_window(layer, layer.window, rate)

    return rewrite(model, ConvBase, rule, where)


@ablation
def repad(
    model: nn.Module,
    *,
    mode: PaddingMode | None = None,
    padding: Padding | None = None,
    where: Where = None,
) -> nn.Module:
    """Change the padding mode of convolutions, the amount of padding, or both.

    `padding="FULL"` is full convolution (Kayhan & van Gemert 2020). The sizes of maps change with
    `padding`, and so does a dense head behind `Flatten`.
    """
    options = {"padding_mode": mode, "padding": padding}
    given: dict[str, Any] = {name: value for name, value in options.items() if value is not None}
    if not given:
        raise InputError("repad changes nothing: give mode or padding")

    def rule(layer: ConvBase) -> ConvBase:
        if mode is not None:
            require(layer, WINDOWED, "it sees the whole map, and no padding")
        return layer.clone(**given)

    return rewrite(model, ConvBase, rule, where)


def resize_window(layer: ConvBase | MaxPool | AvgPool, window: Size, dilation: Size) -> nn.Module:
    """Return `layer` with another window or dilation; the output size and the centres stay.

    If the difference of the spans is odd, the centres move by half a position.
    """
    for name, value in (("window", window), ("dilation", dilation)):
        per_axis(value, len(value) if isinstance(value, Sequence) else 1, name)
    old_dilation = getattr(layer, "dilation", 1)
    fields: dict[str, Any] = {"window": window}
    if hasattr(layer, "dilation"):
        fields["dilation"] = dilation
    padding, strides = layer.padding, strides_of(layer)
    if isinstance(grid := same_grid(layer), tuple) and isinstance(grid[0], str):
        odd = np.any((_extent(window, dilation) - _extent(layer.window, old_dilation)) % 2)
        return layer.clone(**fields, padding=grid if np.max(strides) > 1 or odd else padding)
    rank = num_axes(layer.window, window, dilation, strides, padding)
    spans = span(layer.window, old_dilation, rank), span(window, dilation, rank)
    pairs = resolve_padding(padding, (0,) * rank, layer.window, 1, old_dilation)
    return layer.clone(**fields, padding=recentre(pairs, *spans))


def same_grid(layer: ConvBase | MaxPool | AvgPool) -> Padding:
    """Return the padding; "SAME" as one that keeps the centres of this layer's windows."""
    if not (isinstance(layer.padding, str) and layer.padding in ("SAME", "SAME_LOWER")):
        return layer.padding
    like = _extent(layer.window, getattr(layer, "dilation", 1)).tolist()
    size = like if isinstance(like, int) else tuple(like)
    return layer.padding, size, strides_of(layer)


def strides_of(layer: ConvBase | MaxPool | AvgPool) -> Size:
    """Return the strides, which are by default the window of a pooling layer."""
    return layer.window if layer.strides is None else layer.strides


def _extent(window: Size, dilation: Size) -> np.ndarray:
    """Return the size of the dilated window: one number, or one per axis."""
    return np.subtract(window, 1) * np.asarray(dilation) + 1


def num_axes(*values: object) -> int:
    """Return the number of spatial axes: the length of the first of `values` that is a sequence."""
    for value in values:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return len(value)
    raise InputError(f"window must have one number per axis, got {values[0]}")


def span(window: Size, dilation: Size, rank: int) -> tuple[int, ...]:
    """Return the size of the dilated window, per axis."""
    return dilated(per_axis(window, rank, "window"), per_axis(dilation, rank, "dilation"))
