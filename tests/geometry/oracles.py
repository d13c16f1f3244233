"""Receptive fields found in other ways than the library's, and networks to compare them on."""

from __future__ import annotations

from collections.abc import Sequence

import hypothesis.strategies as st
import numpy as np
from flax import linen as nn

from cnn.geometry import describe, trace, uniform_field
from cnn.layers import (
    AvgPool,
    BatchNorm,
    Chain,
    Concat,
    Conv,
    ConvLocal,
    ConvTiled,
    Dense,
    DenseSpatial,
    Maxout,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv,
    Tanh,
)
from cnn.layers.tree import children, join_path
from tests.geometry.layer_windows import layer_windows, truncate

Positions = tuple[frozenset[int], ...]
"""Positions per spatial axis."""


def backward_field(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    inside: bool = False,
) -> Positions:
    """Return the pixels that a unit sees, found layer by layer from the output to the input.

    `layer` and `unit` are as in `uniform_field`. Positions in the padding count, negative ones
    before the input, unless only those `inside` the maps are asked for.
    """
    if layer is None:
        local = describe(model, input_shape, aligned=False).local
        layer = local[-1].name if local else None
    model = Chain(()) if layer is None else truncate(model, layer)
    traces = trace(model, tuple(input_shape))

    def walk(path: str, layer: nn.Module, positions: Positions) -> Positions:
        inner = [(join_path(path, name), part) for name, part in children(layer).items()]
        if isinstance(layer, Chain):
            for name, part in reversed(inner):
                positions = walk(name, part, positions)
            return positions
        if isinstance(layer, Concat | Residual):
            branches = [walk(name, part, positions) for name, part in inner]
            if isinstance(layer, Residual) and layer.shortcut is None:
                branches.append(positions)
            return tuple(frozenset().union(*axis) for axis in zip(*branches, strict=True))
        size = traces[path].input[:-1]
        spec = layer_windows(layer, size)
        if spec is None or spec.out != traces[path].output[:-1]:
            return tuple(frozenset(range(n)) for n in size)
        seen = []
        for outs, n, k, s, (lo, _), r in zip(positions, *spec, strict=True):
            cells = {p * s + a * r - lo for p in outs for a in range(k)}
            seen.append(frozenset(cells & set(range(n)) if inside else cells))
        return tuple(seen)

    size = traces[""].output[:-1]
    start = tuple(n // 2 for n in size) if unit is None else unit
    return walk("", model, tuple(frozenset({p}) for p in start))


def gradient_field(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None = None,
    unit: Sequence[int] | None = None,
) -> np.ndarray:
    """Return which pixels have a gradient, with equal positive weights and no nonlinearity."""
    return uniform_field(model, input_shape, layer, unit) > 0


def hull(positions: Positions) -> tuple[tuple[int, int], ...]:
    """Return the first and the last position per axis."""
    return tuple((min(axis), max(axis)) for axis in positions)


@st.composite
def windows(draw: st.DrawFn, rank: int, strides: tuple[int, ...], keep: bool) -> nn.Module:
    """Draw a windowed layer; with `keep`, one that keeps the size at stride 1."""
    window = draw(st.tuples(*[st.integers(1, 3)] * rank))
    dilation = draw(st.tuples(*[st.integers(1, 2)] * rank))
    spans = [(k - 1) * r + 1 for k, r in zip(window, dilation, strict=True)]
    lows = [draw(st.integers(0, d - 1)) for d in spans]
    highs = [
        d - 1 - lo if keep else draw(st.integers(0, d - 1))
        for d, lo in zip(spans, lows, strict=True)
    ]
    padding = tuple(zip(lows, highs, strict=True))
    if not keep:
        padding = draw(st.sampled_from([padding, "VALID", "SAME", "SAME_LOWER", "FULL"]))
    match draw(st.sampled_from(["conv", "conv", "local", "tiled", "separable", "max", "avg"])):
        case "max":
            return MaxPool(window, strides, padding, dilation)
        case "avg":
            return AvgPool(window, strides, padding if draw(st.booleans()) and not keep else "SAME")
        case "local":
            return ConvLocal(1, window, strides, padding, dilation=dilation)
        case "tiled":
            return ConvTiled(1, window, strides, padding, dilation=dilation, period=1)
        case "separable":
            return SeparableConv(1, window, strides, padding, dilation=dilation)
    return Conv(1, window, strides, padding, dilation=dilation)


@st.composite
def layers(draw: st.DrawFn, rank: int) -> nn.Module:
    """Draw a layer, or branches that meet; these need not be aligned."""
    strides = draw(st.tuples(*[st.integers(1, 2)] * rank))
    kind = draw(st.sampled_from(["one", "one", "one", "branches", "residual", "radius", "point"]))
    match kind:
        case "radius":
            window = draw(st.tuples(*[st.integers(1, 3)] * rank))
            return DenseSpatial(1, window, strides, "SAME", radius=draw(st.integers(1, 3)))
        case "point":
            point = [ReLU(), BatchNorm(), Tanh(), Dense(2), Maxout(1)]
            return draw(st.sampled_from(point))
        case "branches":
            return Concat(tuple(draw(windows(rank, strides, True)) for _ in range(2)))
        case "residual":
            first, second = (draw(windows(rank, (1,) * rank, True)) for _ in range(2))
            body = Chain((first, ReLU(), Conv(2, (1,) * rank)))
            return Chain((Conv(2, (1,) * rank), Residual(body), second))
    return draw(windows(rank, strides, False))


@st.composite
def networks(draw: st.DrawFn) -> tuple[Chain, tuple[int, ...]]:
    """Draw up to four layers, and an input shape."""
    rank = draw(st.integers(1, 2))
    chain = Chain(tuple(draw(layers(rank)) for _ in range(draw(st.integers(1, 4)))))
    return chain, (*draw(st.tuples(*[st.integers(7, 16)] * rank)), draw(st.integers(1, 2)))
