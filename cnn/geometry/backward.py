"""From the output to the input: what a unit sees, and how large an input has to be."""

from __future__ import annotations

from collections.abc import Sequence

from flax import linen as nn

from cnn.errors import InputError, LayerError
from cnn.geometry.description import describe
from cnn.geometry.trace import trace
from cnn.geometry.windows import fold, placement, smallest, until
from cnn.layers import AdaptiveAvgPool, AdaptiveMaxPool, Chain
from cnn.ops import per_axis

Positions = tuple[frozenset[int], ...]
"""The positions that are seen, per spatial axis."""


def backward_field(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    inside: bool = False,
) -> Positions:
    """Return the pixels that a unit sees, found layer by layer from the output to the input.

    The unit is one of the layer called `layer`, the last one before the head sees all positions if
    not given, and stands in the middle of its map if not given. Where a layer sees all positions,
    so does the unit. Positions in the padding count, negative ones before the input, unless only
    what is `inside` the maps is asked for.
    """
    model = local_part(model, input_shape, layer)
    seen = trace(model, tuple(input_shape))
    start = chosen_unit(seen[""].output[:-1], unit)

    def leaf(name: str, layer: nn.Module, positions: Positions) -> Positions:
        size = seen[name].input[:-1]
        at = placement(layer, size)
        if at is None or at.out != seen[name].output[:-1]:
            return tuple(frozenset(range(n)) for n in size)
        looked = []
        for outs, n, k, s, (lo, _), r in zip(positions, *at, strict=True):
            cells = {p * s + a * r - lo for p in outs for a in range(k)}
            looked.append(frozenset(cells & set(range(n)) if inside else cells))
        return tuple(looked)

    def merge(name: str, layer: nn.Module, branches: list[Positions]) -> Positions:
        return tuple(frozenset().union(*axis) for axis in zip(*branches, strict=True))

    return fold(model, tuple(frozenset({p}) for p in start), leaf, merge, backward=True)


def local_part(model: nn.Module, input_shape: Sequence[int], layer: str | None) -> nn.Module:
    """Return `model` up to `layer`, or to the last one before the head sees all positions."""
    if layer is not None:
        return until(model, layer)
    local = describe(model, input_shape, aligned=False).local
    return until(model, local[-1].name) if local else Chain(())


def chosen_unit(size: Sequence[int], unit: Sequence[int] | None) -> tuple[int, ...]:
    """Return the position `unit`, checked, on a map of `size`; the middle if it is not given."""
    if unit is None:
        return tuple(n // 2 for n in size)
    if len(unit) != len(size) or not all(0 <= p < n for p, n in zip(unit, size, strict=True)):
        raise InputError(f"unit {unit} is no position on a map of size {tuple(size)}: choose one")
    return tuple(unit)


def input_size_for(
    model: nn.Module, output_size: Sequence[int], layer: str | None = None
) -> tuple[int, ...]:
    """Return the smallest input, one size per axis, on which a map has `output_size`.

    The map is the output of `layer`; if that is not given, the last one before the head, where
    adaptive pooling, which makes one size of all, counts as the head. Raises `InputError` if there
    is no such input.
    """
    wanted = per_axis(tuple(output_size), len(output_size), "output_size")
    model = model if layer is None else until(model, layer)

    def leaf(name: str, layer: nn.Module, reached: _Reached) -> _Reached:
        size, at_head = reached
        if at_head or isinstance(layer, AdaptiveAvgPool | AdaptiveMaxPool):
            return size, True
        at = placement(layer, size)
        return (size, True) if at is None else (at.out, False)

    def merge(name: str, layer: nn.Module, branches: list[_Reached]) -> _Reached:
        if len(set(branches)) > 1:
            raise LayerError(name, "its branches end in different sizes: pad them alike")
        return branches[0]

    def output(size: tuple[int, ...]) -> tuple[int, ...]:
        return fold(model, (size, False), leaf, merge)[0]

    def fits(size: tuple[int, ...]) -> bool:
        try:
            return all(n >= w for n, w in zip(output(size), wanted, strict=True))
        except InputError:
            return False

    found = smallest(fits, len(wanted), start=max(wanted), most=1 << 16)
    if found is None or output(found) != wanted:
        raise InputError(f"output_size {output_size} is that of no input: choose another")
    return found


_Reached = tuple[tuple[int, ...], bool]
"""A size, and whether it is that of the map before the head."""
