"""Moves of data: what the outputs see of primitives that compute nothing.

A rule gets an equation, its operands, and what each of these sees of one axis of the input. It
returns what all outputs of the equation see of this axis, or a list with an entry for each.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Bool, Int

from cnn.geometry.jaxpr import moved_axes, out_shapes
from cnn.geometry.seen import (
    NOTHING,
    Seen,
    broadcast,
    everything,
    follow,
    most_varied,
    padded,
    reshape_bounds,
    reshaped,
    sees,
    windowed,
)
from cnn.geometry.value import Value

Rule = Callable[[JaxprEqn, list[Value], list[Seen]], Seen | list[Seen]]

SAME = (
    *("convert_element_type", "copy", "layout_constraint", "name", "optimization_barrier"),
    *("reduce_precision", "sharding_constraint", "stop_gradient"),
)
"""Primitives whose outputs are their operands."""
KEEPS = ("broadcast_in_dim", "reshape", "squeeze", "transpose", *SAME)
"""Primitives whose output has all entries of the operand."""
PARTS = ("rev", "slice", "split", "gather", "dynamic_slice")
"""Primitives whose output is made of some of them, in any order."""


def move(eqn: JaxprEqn, shape: Sequence[int], bounds: np.ndarray) -> np.ndarray | None:
    """Return an array moved as the equation moves its operand, which has `shape`; None if it can't.

    The array has one axis in front; its others have the size of the operand's, or 1.
    """
    params = eqn.params
    match eqn.primitive.name:
        case "reshape":
            return reshape_bounds(bounds, shape, params["new_sizes"])
        case "transpose":
            return bounds.transpose(0, *(a + 1 for a in params["permutation"]))
        case "squeeze":
            return bounds.squeeze(tuple(a + 1 for a in params["dimensions"]))
        case "broadcast_in_dim":
            made = [1] * len(params["shape"])
            for n, place in zip(bounds.shape[1:], params["broadcast_dimensions"], strict=True):
                made[place] = n
            return bounds.reshape(len(bounds), *made)
        case "rev":
            return np.flip(bounds, tuple(a + 1 for a in params["dimensions"]))
        case "slice":
            steps = params["strides"] or (1,) * len(shape)
            index = zip(params["start_indices"], params["limit_indices"], steps, strict=True)
            cuts = zip(index, bounds.shape[1:], strict=True)
            return bounds[(slice(None), *(slice(*i) if n > 1 else slice(None) for i, n in cuts))]
    return bounds if eqn.primitive.name in SAME else None


def _move(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen | list[Seen]:
    if eqn.primitive.name == "optimization_barrier":
        return operands
    (seen,), shape, params = operands, values[0].shape, eqn.params
    if eqn.primitive.name == "reshape":
        return reshaped(seen, shape, params["new_sizes"])
    bounds = move(eqn, shape, seen.bounds)
    axis, stride, axes = seen.axis, seen.stride, moved_axes(eqn)
    if bounds is None or axis is None:
        return Seen(seen.bounds if bounds is None else bounds)
    if eqn.primitive.name == "slice" and stride and params["strides"]:
        stride *= params["strides"][axis]
    return follow(bounds, axis if axes is None else axes[axis], stride)


def _split(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> list[Seen]:
    seen, axis = operands[0], eqn.params["axis"] + 1
    if seen.bounds.shape[axis] == 1:
        return [seen] * len(eqn.outvars)
    parts = np.split(seen.bounds, np.cumsum(eqn.params["sizes"])[:-1], axis)
    return [follow(part, seen.axis, seen.stride) for part in parts]


def _pad(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    """Windows of one unit, on an axis with zeros before, after and between its units."""
    seen, out = operands[0], out_shapes(eqn)[0]
    for axis, (low, high, between) in enumerate(eqn.params["padding_config"]):
        if low or high or between:
            places = window_positions(out[axis], 1, 1, 1, low, between + 1)
            seen = windowed(seen, axis, values[0].shape[axis], *places, None if between else 1)
    return seen


def _concatenate(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    """Parts of a value at its own ends are padding, and continue its positions."""
    axis = eqn.params["dimension"]
    sizes = [v.shape[axis] for v in values]
    for i, (value, seen) in enumerate(zip(values, operands, strict=True)):
        others = [v.part_of for v in (*values[:i], *values[i + 1 :])]
        if seen.axis == axis and value.key and all(part is value.key for part in others):
            before, after = sum(sizes[:i]), sum(sizes[i + 1 :])
            made = padded(seen, axis, sizes[i], before, after, shows=True)
            return follow(made, axis, seen.stride)
    made = _joined(operands, [v.shape for v in values], axis)
    return _follow_common(made, operands, axis)


def _stack(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    axis, parts, shapes = eqn.params["axis"], [], []
    for seen, value in zip(operands, values, strict=True):
        follows = None if seen.axis is None else seen.axis + (seen.axis >= axis)
        parts.append(Seen(np.expand_dims(seen.bounds, axis + 1), follows, seen.stride))
        shapes.append((*value.shape[:axis], 1, *value.shape[axis:]))
    return _follow_common(_joined(parts, shapes, axis), parts, axis)


def _joined(operands: list[Seen], shapes: list[tuple[int, ...]], axis: int) -> np.ndarray:
    """Return the bounds of a concatenation along `axis`."""
    shape = np.max([s.bounds.shape[1:] for s in operands], 0).tolist()
    lines = []
    for seen, own in zip(operands, shapes, strict=True):
        shape[axis] = own[axis]
        lines.append(broadcast(seen.bounds, shape))
    return np.concatenate(lines, axis + 1)


def _follow_common(made: np.ndarray, operands: list[Seen], axis: int) -> Seen:
    """Follow the axis that all operands follow, unless it is that of the concatenation."""
    axes = {(s.axis, s.stride) for s in operands if sees(s)}
    follows = {a for a, _ in axes}
    if len(follows) == 1 and follows.isdisjoint({None, axis}):
        return follow(made, follows.pop(), axes.pop()[1] if len(axes) == 1 else None)
    return follow(made, most_varied(made, range(made.ndim - 1)))


def _tile(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    (seen,), reps = operands, eqn.params["reps"]
    counts = [r if n > 1 else 1 for r, n in zip(reps, seen.bounds.shape[1:], strict=True)]
    follows = seen.axis if seen.axis is not None and reps[seen.axis] == 1 else None
    return follow(np.tile(seen.bounds, (1, *counts)), follows, seen.stride)


def _gather(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    """Move the bounds as the data, if the indices are known. Else every unit may see all."""
    if not values[0].from_input:
        return _look_up(eqn, operands[1])
    if any(v.constant is None for v in values[1:]):
        return see_all(eqn, values, operands)
    indices = [jnp.asarray(v.constant()) for v in values[1:] if v.constant is not None]
    params = dict(eqn.params)
    if "fill_value" in params:
        params["fill_value"] = int(NOTHING)
    lines = broadcast(operands[0].bounds, values[0].shape)
    made = np.stack([eqn.primitive.bind(jnp.asarray(x), *indices, **params) for x in lines])
    return follow(made, most_varied(made, range(made.ndim - 1)))


def _look_up(eqn: JaxprEqn, indices: Seen) -> Seen:
    """Return what entries of a table see: what their indices see."""
    offsets, rank = eqn.params["dimension_numbers"].offset_dims, len(out_shapes(eqn)[0])
    made = np.expand_dims(indices.bounds.min(-1), [1 + a for a in offsets])
    places = [a for a in range(rank) if a not in offsets]
    follows = None if indices.axis is None else places[indices.axis]
    return follow(made, follows, indices.stride)


def _dynamic_update_slice(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    """Write the bounds as the data, if the place is known. Else every unit may see all."""
    starts = [v.constant for v in values[2:]]
    if any(start is None for start in starts):
        return see_all(eqn, values, operands)
    data, update = (
        broadcast(s.bounds, v.shape) for s, v in zip(operands[:2], values[:2], strict=True)
    )
    place = [jnp.asarray(start()) for start in starts if start is not None]
    made = [lax.dynamic_update_slice(x, y, place) for x, y in zip(data, update, strict=True)]
    return follow(np.stack(made), operands[0].axis, operands[0].stride)


def _scatter(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    """Write the bounds as the data, or combine them with it, if the indices are known."""
    if values[1].constant is None:
        return see_all(eqn, values, operands)
    write = lax.scatter if eqn.primitive.name == "scatter" else lax.scatter_min
    data, update = (broadcast(operands[i].bounds, values[i].shape) for i in (0, 2))
    indices = jnp.asarray(values[1].constant())
    numbers, mode = eqn.params["dimension_numbers"], eqn.params["mode"]
    made = [write(x, indices, y, numbers, mode=mode) for x, y in zip(data, update, strict=True)]
    return follow(np.stack(made), operands[0].axis, operands[0].stride)


def _dynamic_slice(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    """A slice, if its place is known. Else every unit may see all along the axes that it cuts."""
    sizes = eqn.params["slice_sizes"]
    seen, starts = operands[0], [v.constant for v in values[1:]]
    if any(map(sees, operands[1:])):
        return see_all(eqn, values, operands)
    bounds, follows = seen.bounds, seen.axis
    for axis, (n, size, start) in enumerate(zip(values[0].shape, sizes, starts, strict=True)):
        if bounds.shape[axis + 1] == 1 or n == size:
            continue
        if start is None:
            one = bounds.min(axis + 1, keepdims=True)
            bounds = np.repeat(one, size, axis + 1)
            follows = None if follows == axis else follows
        else:
            first = int(np.clip(int(start()), 0, n - size))
            bounds = bounds.take(range(first, first + size), axis + 1)
    return follow(bounds, follows, seen.stride)


def see_all(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    """Every unit of the output may see what any unit of the operands sees."""
    shape = out_shapes(eqn)[0]
    bounds = np.min([everything(s, len(shape)).bounds for s in operands], 0)
    return Seen(broadcast(bounds, shape))


def window_positions(
    out: int, window: int, stride: int, dilation: int, low: int, between: int
) -> tuple[Int[np.ndarray, "out window"], Bool[np.ndarray, "out window"]]:
    """Return the unit at each tap of each window along an axis, and where there is a tap.

    `low` is the padding before the axis, `between` the distance of its units after zeros were
    inserted between them. A tap on an inserted zero is none.
    """
    places = np.arange(out)[:, None] * stride + np.arange(window) * dilation - low
    return places // between, places % between == 0


MOVES: dict[str, Rule] = {
    **dict.fromkeys((*KEEPS, "rev", "slice"), _move),
    "split": _split,
    "pad": _pad,
    "concatenate": _concatenate,
    "stack": _stack,
    "tile": _tile,
    "gather": _gather,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _dynamic_update_slice,
    **dict.fromkeys(("scatter", "scatter-add", "scatter-max", "scatter-min"), _scatter),
}
"""The rule of each primitive that moves data."""
