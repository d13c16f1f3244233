"""The smallest input on which a model, or a layer of it, has a given output size."""

import functools
from collections.abc import Callable, Sequence

from flax import linen as nn

from cnn.errors import InputError, unknown_name
from cnn.geometry.description import describe
from cnn.geometry.search import smallest_size
from cnn.geometry.trace import LayerTrace, trace
from cnn.ops import per_axis

Size = tuple[int, ...]
Traces = dict[str, LayerTrace]
LIMIT = 1 << 16
"""The largest input that is tried, per axis."""


def input_size_for(
    model: nn.Module, output_size: Sequence[int], layer: str | None = None, channels: int = 3
) -> tuple[int, ...]:
    """Return the smallest input size, per spatial axis, that gives `output_size` after `layer`.

    Args:
      model: any Linen module of one input.
      output_size: one number per spatial axis.
      layer: its path. By default the last layer before the head whose size depends on the input's:
        adaptive pooling counts as part of the head.
      channels: of the input.

    Raises:
      InputError: no input gives this size.
    """
    target = per_axis(tuple(output_size), len(output_size), "output_size")
    error = InputError(f"output_size {output_size} is not the size for any input: choose another")

    @functools.cache
    def traces(size: Size) -> Traces | None:
        try:
            return trace(model, (*size, channels))
        except InputError:
            return None

    def works(size: Size) -> bool:
        return traces(size) is not None

    smallest = smallest_size(works, len(target), start=max(target), limit=LIMIT)
    if smallest is None:
        raise error
    name = _last_layer(model, traces, smallest, channels) if layer is None else layer

    def output(size: Size) -> Size:
        found = traces(size)
        if found is None:
            return (0,) * len(size)
        if name not in found:
            raise unknown_name("layer", name, found)
        return found[name].output[: len(size)]

    def fits(size: Size) -> bool:
        return all(n >= t for n, t in zip(output(size), target, strict=True))

    found = smallest_size(fits, len(target), start=max(target), limit=LIMIT)
    if found is None or output(found) != target:
        raise error
    return found


def _last_layer(
    model: nn.Module, traces: Callable[[Size], Traces | None], smallest: Size, channels: int
) -> str:
    """Return the last layer before the head whose size depends on the input's."""
    # So much larger that even layers after many strides differ in size.
    size, double = tuple(64 * n for n in smallest), tuple(128 * n for n in smallest)
    one, two = traces(size) or {}, traces(double) or {}
    local = describe(model, (*size, channels), aligned=False).local
    changing = [x.name for x in local if x.name in one and one[x.name].output != two[x.name].output]
    if not changing:
        raise InputError("the size of no layer before the head depends on the input: name a layer")
    return changing[-1]
