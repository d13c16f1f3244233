"""The smallest input on which a model, or a layer of it, has a given output size."""

import bisect
from collections.abc import Callable, Sequence

from flax import linen as nn

from cnn.errors import InputError, LayerError
from cnn.geometry.windows import layer_windows, propagate, truncate
from cnn.layers import AdaptiveAvgPool, AdaptiveMaxPool
from cnn.ops import per_axis

Size = tuple[int, ...]


def input_size_for(
    model: nn.Module, output_size: Sequence[int], layer: str | None = None
) -> tuple[int, ...]:
    """Return the smallest input size, per spatial axis, that gives `output_size` after `layer`.

    By default that is the last layer before the head; adaptive pooling, whose output size is fixed,
    counts as part of the head. Raises `InputError` if no input gives this size.
    """
    target = per_axis(tuple(output_size), len(output_size), "output_size")
    model = model if layer is None else truncate(model, layer)

    # The state is a size, and whether the head has been reached.
    def at_layer(name: str, layer: nn.Module, state: tuple[Size, bool]) -> tuple[Size, bool]:
        size, at_head = state
        if at_head or isinstance(layer, AdaptiveAvgPool | AdaptiveMaxPool):
            return size, True
        spec = layer_windows(layer, size)
        return (size, True) if spec is None else (spec.out, False)

    def at_merge(name: str, layer: nn.Module, states: list[tuple[Size, bool]]) -> tuple[Size, bool]:
        if len(set(states)) > 1:
            raise LayerError(name, "its branches end in different sizes: give them equal padding")
        return states[0]

    def output(size: Size) -> Size:
        return propagate(model, (size, False), at_layer, at_merge)[0]

    def fits(size: Size) -> bool:
        try:
            return all(n >= t for n, t in zip(output(size), target, strict=True))
        except InputError:
            return False

    found = smallest_size(fits, len(target), start=max(target), limit=1 << 16)
    if found is None or output(found) != target:
        raise InputError(f"output_size {output_size} is not the size for any input: choose another")
    return found


def smallest_size(fits: Callable[[Size], bool], rank: int, start: int, limit: int) -> Size | None:
    """Return the smallest size of `rank` axes that `fits`; `None` if none up to `limit` does.

    `fits` must be monotone on each axis, independently of the others.
    """
    large = start
    while not fits((large,) * rank):
        if large >= limit:
            return None
        large = min(2 * large, limit)

    def fits_on(axis: int) -> Callable[[int], bool]:
        return lambda n: fits(tuple(n if i == axis else large for i in range(rank)))

    sizes = range(1, large)
    return tuple(1 + bisect.bisect_left(sizes, True, key=fits_on(axis)) for axis in range(rank))
