"""Where windows stand while the output keeps its size, and what they see beyond the border."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from flax import linen as nn

from cnn.ablations.rewrite import Where, change, need
from cnn.errors import InputError
from cnn.layers import (
    AvgPool,
    Conv,
    ConvBase,
    ConvLocal,
    ConvTiled,
    MaxPool,
    SeparableConv,
)
from cnn.ops import Padding, PaddingMode, Size, per_axis, resolve_padding
from cnn.ops.window import dilated

SEES_THROUGH_A_WINDOW = (Conv, ConvTiled, ConvLocal, SeparableConv)


def rewindow(model: nn.Module, window: Size, where: Where = None) -> nn.Module:
    """Give every convolution another window; its centre and the output size stay.

    Padding makes up for the difference, negative padding where there is none to take away from.
    Raises `LayerError` for a `DenseSpatial`, which has no window, and where the size of
    the window does not say the number of axes (give one number per axis).
    """

    def rule(layer: ConvBase) -> nn.Module:
        need(layer, SEES_THROUGH_A_WINDOW, "it sees the whole map; `localize` gives it a radius")
        return refit(layer, window, layer.dilation)

    return change(model, ConvBase, rule, where)


def dilate(model: nn.Module, rate: Size, where: Where = None) -> nn.Module:
    """Spread the taps of every window `rate` apart; the output size stays, as in `rewindow`."""

    def rule(layer: ConvBase) -> nn.Module:
        need(layer, SEES_THROUGH_A_WINDOW, "it sees the whole map, and has no taps to spread")
        return refit(layer, layer.window, rate)

    return change(model, ConvBase, rule, where)


def repad(
    model: nn.Module,
    *,
    mode: PaddingMode | None = None,
    padding: Padding | None = None,
    where: Where = None,
) -> nn.Module:
    """Change what convolutions see beyond the border, where they may stand, or both.

    `padding="FULL"` is full convolution (Kayhan & van Gemert 2020). The maps grow and shrink with
    `padding`; a dense head behind `Flatten` follows them. Raises `LayerError` where a `mode` is
    given to a `DenseSpatial`.
    """
    fields = {"padding_mode": mode, "padding": padding}
    given: dict[str, Any] = {name: value for name, value in fields.items() if value is not None}
    if not given:
        raise InputError("repad changes nothing: give mode, or padding")

    def rule(layer: ConvBase) -> ConvBase:
        if mode is not None:
            need(layer, SEES_THROUGH_A_WINDOW, "it sees the whole map, and nothing beyond it")
        return layer.clone(**given)

    return change(model, ConvBase, rule, where)


def refit(layer: ConvBase | MaxPool | AvgPool, window: Size, dilation: Size) -> nn.Module:
    """Return `layer` with another window or dilation, padded so that the output size stays.

    Half of the difference in span goes before, the rest after, so the centre stays (within half a
    cell). Raises `InputError` if the number of axes must be known and is not.
    """
    old_dilation = getattr(layer, "dilation", 1)
    fields: dict[str, Any] = {"window": window}
    if hasattr(layer, "dilation"):
        fields["dilation"] = dilation
    if layer.padding in ("SAME", "SAME_LOWER"):
        return layer.clone(**fields)
    rank = axes(layer.window, window, dilation, layer.strides, layer.padding)
    placed = resolve_padding(layer.padding, (0,) * rank, layer.window, 1, old_dilation)
    old, new = span(layer.window, old_dilation, rank), span(window, dilation, rank)
    pairs = []
    for (lo, hi), was, now in zip(placed, old, new, strict=True):
        before = (now - was) // 2 if now >= was else -((was - now) // 2)
        pairs.append((lo + before, hi + (now - was) - before))
    return layer.clone(**fields, padding=tuple(pairs))


def axes(*values: object) -> int:
    """Return the number of spatial axes that one of `values` says: those that are sequences.

    Raises `InputError` if none does.
    """
    for value in values:
        if isinstance(value, Sequence) and not isinstance(value, str):
            return len(value)
    raise InputError(
        f"window {values[0]} does not say for how many axes it is: give one number per axis"
    )


def span(window: Size, dilation: Size, rank: int) -> tuple[int, ...]:
    """Return how many positions the dilated window spans, per axis."""
    return dilated(per_axis(window, rank, "window"), per_axis(dilation, rank, "dilation"))
