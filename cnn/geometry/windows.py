"""Where the windows of a layer stand, and the one walk on which every analysis goes.

`placement` is all that forward and backward analysis know of a layer. What acts on each position by
itself is a window of one.
"""

from __future__ import annotations

import bisect
import math
from collections.abc import Callable, Sequence
from typing import TypeVar

from flax import linen as nn

from cnn.errors import unknown_name
from cnn.layers import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BlurPool,
    Chain,
    Concat,
    ConvBase,
    DenseSpatial,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    MaxPool,
    Permute,
    Residual,
)
from cnn.layers.tree import join, parts
from cnn.ops import WindowSpec, per_axis, window_spec
from cnn.ops.window import dilated

State = TypeVar("State")
_COMPOSITES = (Chain, Concat, Residual)


def placement(layer: nn.Module, size: Sequence[int]) -> WindowSpec | None:
    """Return where the windows of `layer` stand on a map of `size`; `None` if it sees all of it.

    A layer that is not of `cnn.layers` counts as one that acts on each position. Raises
    `InputError` where the windows do not fit.
    """
    rank = len(size)
    match layer:
        case DenseSpatial():
            return None if layer.radius is None else _around(layer, layer.radius, size)
        case ConvBase():
            return window_spec(size, layer.window, layer.strides, layer.padding, layer.dilation)
        case MaxPool() | AvgPool():
            strides = layer.window if layer.strides is None else layer.strides
            dilation = getattr(layer, "dilation", 1)
            return window_spec(size, layer.window, strides, layer.padding, dilation)
        case BlurPool(window, strides):
            return window_spec(size, window, strides, (((window - 1) // 2, window // 2),) * rank)
        case AdaptiveAvgPool(output_size) | AdaptiveMaxPool(output_size):
            out = per_axis(output_size, rank, "output_size")
            bins = tuple(n // m for n, m in zip(size, out, strict=True))
            even = all(n % m == 0 for n, m in zip(size, out, strict=True))
            return window_spec(size, bins, bins) if even else None
        case Permute() | Flatten() | GlobalAvgPool() | GlobalMaxPool():
            return None
    return window_spec(size, 1)


def _around(layer: DenseSpatial, radius: int, size: Sequence[int]) -> WindowSpec:
    """Place windows of the cells at most `radius` from the centres of the windows of `layer`."""
    at = window_spec(size, layer.window, layer.strides, layer.padding, layer.dilation)
    window, pairs = [], []
    spans = dilated(at.window, at.dilation)
    for n, d, s, (lo, _), out in zip(size, spans, at.strides, at.pairs, at.out, strict=True):
        first = math.ceil((d - 1) / 2 - radius)  # counted from the window's first cell
        last = math.floor((d - 1) / 2 + radius)
        end = (out - 1) * s - lo + last
        window.append(last - first + 1)
        pairs.append((lo - first, end - (n - 1)))
    return WindowSpec(tuple(size), tuple(window), at.strides, tuple(pairs), (1,) * len(size))


def fold(
    model: nn.Module,
    state: State,
    leaf: Callable[[str, nn.Module, State], State],
    merge: Callable[[str, nn.Module, list[State]], State],
    path: str = "",
    backward: bool = False,
) -> State:
    """Carry `state` through the layers of `model`, from the input to the output or `backward`.

    `leaf` is what a layer does to it. `merge` unites the states that come out of the branches of
    `Concat` and `Residual`, its identity included. Whatever else holds layers is a leaf.
    """
    if not isinstance(model, _COMPOSITES):
        return leaf(path, model, state)
    inside = [(join(path, name), part) for name, part in parts(model).items()]
    if isinstance(model, Chain):
        for name, part in reversed(inside) if backward else inside:
            state = fold(part, state, leaf, merge, name, backward)
        return state
    states = [fold(part, state, leaf, merge, name, backward) for name, part in inside]
    if isinstance(model, Residual) and model.shortcut is None:
        states.append(state)
    return merge(path, model, states)


def until(model: nn.Module, name: str) -> nn.Module:
    """Return the part of `model` that ends with the layer called `name`.

    Concat beside that layer are left out, and with them their names. Raises `InputError` for an
    unknown name.
    """
    if not name:
        return model
    first, _, rest = name.partition("/")
    inside = parts(model) if isinstance(model, _COMPOSITES) else {}
    if first not in inside:
        raise unknown_name("layer", name, inside)
    last = until(inside[first], rest)
    if isinstance(model, Chain):
        return Chain((*model.layers[: list(inside).index(first)], last))
    return last


def smallest(
    fits: Callable[[tuple[int, ...]], bool], rank: int, start: int, most: int
) -> tuple[int, ...] | None:
    """Return the smallest size of `rank` axes that `fits`, `None` if none does up to `most`.

    Beyond a size that fits all have to, on every axis by itself.
    """
    large = start
    while not fits((large,) * rank):
        if large >= most:
            return None
        large = min(2 * large, most)

    def fits_on(axis: int) -> Callable[[int], bool]:
        return lambda n: fits(tuple(n if i == axis else large for i in range(rank)))

    sizes = range(1, large)
    return tuple(1 + bisect.bisect_left(sizes, True, key=fits_on(axis)) for axis in range(rank))
