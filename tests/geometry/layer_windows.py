"""The windows of each layer of `cnn.layers`, from its fields: what geometry reads otherwise."""

from __future__ import annotations

import math
from collections.abc import Sequence

from flax import linen as nn

from cnn import layers
from cnn.layers.tree import children
from cnn.ops import WindowSpec, per_axis, window_spec


def layer_windows(layer: nn.Module, size: Sequence[int]) -> WindowSpec | None:
    """Return the windows of `layer` on a map of `size`; `None` if it sees all positions.

    Other layers count as pointwise: a window of 1.
    """
    rank = len(size)
    match layer:
        case layers.DenseSpatial():
            return None if layer.radius is None else _radius_windows(layer, layer.radius, size)
        case layers.ConvBase():
            return window_spec(size, layer.window, layer.strides, layer.padding, layer.dilation)
        case layers.MaxPool() | layers.AvgPool():
            return pool_windows(layer, size)
        case layers.BlurPool(window, strides):
            return window_spec(size, window, strides, (((window - 1) // 2, window // 2),) * rank)
        case layers.AdaptiveAvgPool(output_size) | layers.AdaptiveMaxPool(output_size):
            out = per_axis(output_size, rank, "output_size")
            bins = tuple(n // m for n, m in zip(size, out, strict=True))
            even = all(n % m == 0 for n, m in zip(size, out, strict=True))
            return window_spec(size, bins, bins) if even else None
        case layers.Permute() | layers.Flatten() | layers.GlobalAvgPool() | layers.GlobalMaxPool():
            return None
    return window_spec(size, 1)


def pool_windows(layer: layers.MaxPool | layers.AvgPool, size: Sequence[int]) -> WindowSpec:
    """Return the windows of a pooling layer."""
    strides = layer.window if layer.strides is None else layer.strides
    dilation = getattr(layer, "dilation", 1)
    return window_spec(size, layer.window, strides, layer.padding, dilation)


def _radius_windows(layer: layers.DenseSpatial, radius: int, size: Sequence[int]) -> WindowSpec:
    """Return windows of the positions within `radius` of the centres of the layer's windows."""
    spec = window_spec(size, layer.window, layer.strides, layer.padding, layer.dilation)
    window, pairs = [], []
    for n, k, s, (lo, _), r, out in zip(*spec, spec.out, strict=True):
        first = math.ceil(r * (k - 1) / 2 - radius)  # relative to the first cell of the window
        last = math.floor(r * (k - 1) / 2 + radius)
        end = (out - 1) * s - lo + last
        window.append(last - first + 1)
        pairs.append((lo - first, end - (n - 1)))
    return WindowSpec(tuple(size), tuple(window), spec.strides, tuple(pairs), (1,) * len(size))


def truncate(model: nn.Module, name: str) -> nn.Module:
    """Return the part of `model` that ends with the layer called `name`, or the model itself.

    Inside a `Concat` or `Residual`, that is the layer's own branch alone.
    """
    first, _, rest = name.partition("/")
    inside = children(model)
    if first not in inside:
        return model
    last = truncate(inside[first], rest)
    if isinstance(model, layers.Chain):
        return layers.Chain((*model.layers[: list(inside).index(first)], last))
    return last
