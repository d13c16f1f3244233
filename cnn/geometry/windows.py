"""The windows of each layer type, and the walk over a model that geometry is computed on."""

import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from flax import linen as nn

from cnn import layers
from cnn.errors import unknown_name
from cnn.layers.tree import children, join_path
from cnn.ops import WindowSpec, per_axis, window_spec

State = TypeVar("State")
_COMBINATORS = (layers.Chain, layers.Concat, layers.Residual)


def layer_windows(layer: nn.Module, size: Sequence[int]) -> WindowSpec | None:
    """Return the windows of `layer` on a map of `size`; `None` if it sees all positions.

    A layer that is not of `cnn.layers` counts as pointwise: a window of 1.
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


def propagate(
    model: nn.Module,
    state: State,
    at_layer: Callable[[str, nn.Module, State], State],
    at_merge: Callable[[str, nn.Module, list[State]], State],
    path: str = "",
) -> State:
    """Pass `state` through the layers of `model`, from the input to the output.

    `at_layer` returns the state after a layer; `at_merge` that of a `Concat` or `Residual`, from
    the states of its branches. The identity of a `Residual` is a branch.
    """
    if not isinstance(model, _COMBINATORS):
        return at_layer(path, model, state)
    inside = [(join_path(path, name), part) for name, part in children(model).items()]
    if isinstance(model, layers.Chain):
        for name, part in inside:
            state = propagate(part, state, at_layer, at_merge, name)
        return state
    states = [propagate(part, state, at_layer, at_merge, name) for name, part in inside]
    if isinstance(model, layers.Residual) and model.shortcut is None:
        states.append(state)
    return at_merge(path, model, states)


def truncate(model: nn.Module, name: str) -> nn.Module:
    """Return the part of `model` that ends with the layer called `name`.

    Inside a `Concat` or `Residual`, that is the layer's own branch alone.
    """
    if not name:
        return model
    first, _, rest = name.partition("/")
    inside = children(model) if isinstance(model, _COMBINATORS) else {}
    if first not in inside:
        raise unknown_name("layer", name, inside)
    last = truncate(inside[first], rest)
    if isinstance(model, layers.Chain):
        return layers.Chain((*model.layers[: list(inside).index(first)], last))
    return last
