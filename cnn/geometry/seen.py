"""What the units of a value see of the input: the first and the last position, for every unit.

Four bounds are kept for each unit and each spatial axis of the input, written so that a unit that
combines others takes their minimum:

    first, −last            where padding continues the positions: unit −1 of a map of stride 2
                            sees what unit 0 sees, 2 positions earlier
    first, −last (exact)    where padding shows nothing of the input

The first two give the receptive field of the literature, which may be larger than the input. The
others are the positions that can change the unit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Int

Shape = Sequence[int]
Bounds = Int[np.ndarray, "4 *shape"]
"""An axis has the size of the value's, or 1 if all units along it see the same."""

NOTHING = np.int32(2**30)
"""The bounds of a unit that sees nothing."""
CONTINUED, EXACT = slice(0, 2), slice(2, 4)


class Seen(NamedTuple):
    """What the units of a value see of one spatial axis of the input."""

    bounds: Bounds
    axis: int | None = None
    """The value's axis that follows the input's, as the rows of a map follow those of an image."""
    stride: int | None = None
    """Positions from one unit along `axis` to the next; None if they are not equally spaced."""


def pixels(size: int, axis: int, rank: int) -> Seen:
    """Return what the units of the input see: themselves."""
    p = np.arange(size, dtype=np.int32)
    bounds = np.expand_dims(np.stack([p, -p, p, -p]), [1 + a for a in range(rank) if a != axis])
    return Seen(bounds, axis, 1)


def nothing(rank: int) -> Seen:
    """Return what the units of a value of this rank see that the input does not change."""
    return Seen(np.full((4, *[1] * rank), NOTHING))


def along(bounds: Bounds, axis: int) -> Int[np.ndarray, "4 n"]:
    """Return the bounds of the units along `axis`, all others combined."""
    return bounds.min(tuple(a for a in range(1, bounds.ndim) if a != axis + 1))


def follow(bounds: Bounds, axis: int | None, stride: int | None = None) -> Seen:
    """Return what is seen, with the spacing of the units along `axis`.

    `stride` is the spacing of an axis with a single unit.
    """
    if axis is None or bounds.shape[axis + 1] == 1:
        return Seen(bounds, axis, None if axis is None else stride)
    first, last = np.diff(along(bounds, axis)[CONTINUED])
    step = int(first[0])
    equal = step != 0 and (first == step).all() and (last == -step).all()
    return Seen(bounds, axis, step if equal else None)


def unclipped(seen: Seen) -> Seen:
    """Return what is seen by units that are equally spaced but for the borders of what they see.

    A masked product gives a unit near the border fewer inputs, where a window would see padding.
    """
    if seen.axis is None or seen.stride:
        return seen
    ends = along(seen.bounds, seen.axis)[CONTINUED]  # first and −last
    inner = np.flatnonzero((ends > ends.min(1, keepdims=True)).all(0))
    if len(inner) < 2:
        return seen
    a, b = inner[:2]
    step = np.stack([ends[:, b] - ends[:, a]], 1) // (b - a)
    line = ends[:, [a]] + step * (np.arange(ends.shape[1]) - a)
    if not (np.maximum(line, ends.min(1, keepdims=True)) == ends).all() or step.sum():
        return seen
    shape = [1] * (seen.bounds.ndim - 1)
    shape[seen.axis] = ends.shape[1]
    continued = np.broadcast_to(line.reshape(2, *shape), seen.bounds[CONTINUED].shape)
    return follow(np.concatenate([continued, seen.bounds[EXACT]]), seen.axis)


def most_varied(bounds: Bounds, axes: Shape) -> int | None:
    """Return the one of `axes` along which units differ most; None if they see the same."""
    spreads = {a: int(np.ptp(along(bounds, a)[CONTINUED], axis=1).max()) for a in axes}
    best = max(spreads, key=spreads.__getitem__, default=None)
    return best if best is not None and spreads[best] > 0 else None


def sees(seen: Seen) -> bool:
    """Return whether any unit sees anything."""
    return bool((seen.bounds < NOTHING).any())


def broadcast(bounds: np.ndarray, shape: Shape) -> np.ndarray:
    """Return the bounds for each unit of a value of this shape."""
    return np.broadcast_to(bounds, (len(bounds), *shape))


def windowed(
    seen: Seen,
    axis: int,
    size: int,
    positions: Int[np.ndarray, "out taps"],
    taps: Bool[np.ndarray, "out taps"],
    step: int | None,
) -> Seen:
    """Return what windows along one axis see.

    Args:
      seen: what the units of the value see.
      axis: the value's axis, of `size` units.
      positions: the unit at each tap of each window. Those outside the axis are padding.
      taps: where there is a tap.
      step: the units from one window to the next.
    """
    bounds = seen.bounds
    inside = taps & (positions >= 0) & (positions < size)
    if bounds.shape[axis + 1] == 1 and not (axis == seen.axis and seen.stride):
        masks = np.stack([taps.any(1)] * 2 + [inside.any(1)] * 2)
        if masks.all():
            return seen
        others = [1 + a for a in range(bounds.ndim - 1) if a != axis]
        return seen._replace(bounds=np.where(np.expand_dims(masks, others), bounds, NOTHING))
    low, high = min(int(positions.min()), 0), max(int(positions.max()), size - 1)
    line = padded(seen, axis, size, -low, high - size + 1)
    taken = np.moveaxis(line, axis + 1, 0)[positions - low]
    mask = np.expand_dims(taps, tuple(range(2, taken.ndim)))
    made = np.moveaxis(np.where(mask, taken, NOTHING).min(1, initial=NOTHING), 0, axis + 1)
    if axis != seen.axis:
        return seen._replace(bounds=made)
    return follow(made, axis, step * seen.stride if step and seen.stride else None)


def padded(
    seen: Seen, axis: int, size: int, before: int, after: int, shows: bool = False
) -> Bounds:
    """Return the bounds with units before and after those of an axis of `size`.

    If the units of this axis are equally spaced, or see the same, the padding continues them. It is
    exactly nothing unless it `shows` a part of the map itself.
    """
    bounds = seen.bounds
    line = np.broadcast_to(bounds, (*bounds.shape[: axis + 1], size, *bounds.shape[axis + 2 :]))
    pads = [(before, after) if a == axis + 1 else (0, 0) for a in range(line.ndim)]
    made = np.pad(line, pads, constant_values=NOTHING)
    ends = bounds[CONTINUED]
    repeated = axis != seen.axis and bool((ends == ends.take([0], axis + 1)).all())
    if repeated or (axis == seen.axis and seen.stride):
        p = np.arange(-before, size + after)
        shift = (p - p.clip(0, size - 1)) * (0 if repeated else seen.stride or 0)
        shift = np.expand_dims(shift, [a for a in range(line.ndim - 1) if a != axis])
        continued = np.pad(line, pads, mode="edge") + np.stack([shift, -shift, shift, -shift])
        made = continued if shows else np.concatenate([continued[CONTINUED], made[EXACT]])
    return made


def union(seen: Sequence[Seen]) -> Seen:
    """Return what units see that combine those of several values, at the same places.

    A value that is repeated along the axis that another follows, as a statistic over all positions
    is, leaves the continued field as it is, and adds to what is seen exactly.
    """
    made, *rest = seen
    for other in rest:
        made = _union(made, other)
    return made


def _union(a: Seen, b: Seen) -> Seen:
    both = np.minimum(a.bounds, b.bounds)
    for one, other in ((a, b), (b, a)):
        if _repeats_along(other, one.axis) and not _repeats_along(one, other.axis):
            both[CONTINUED] = one.bounds[CONTINUED]
            return Seen(both, one.axis, one.stride)
    axis = b.axis if a.axis is None else a.axis
    return follow(both, axis, a.stride if a.stride == b.stride else None)


def _repeats_along(seen: Seen, axis: int | None) -> bool:
    return axis is not None and seen.axis is None and seen.bounds.shape[axis + 1] == 1


def reduced(seen: Seen, axes: Shape) -> Seen:
    """Return what units see that combine all units along `axes`, which stay, with size 1."""
    bounds = seen.bounds.min(tuple(a + 1 for a in axes), keepdims=True)
    return Seen(bounds) if seen.axis in axes else seen._replace(bounds=bounds)


def everything(seen: Seen, rank: int) -> Seen:
    """Return what the units of a value of this rank see that depend on all units of another."""
    bounds = seen.bounds.min(tuple(range(1, seen.bounds.ndim)))
    return Seen(np.expand_dims(bounds, tuple(range(1, rank + 1))))


def reshaped(seen: Seen, old: Shape, new: Shape) -> Seen:
    """Return what units see after a reshape from shape `old` to `new`."""
    bounds, axis = reshape_bounds(seen.bounds, old, new), None
    for before, after in _groups(old, new):
        if seen.axis in before and after:
            alone = len(before) == len(after) == 1
            axis = after[0] if alone else most_varied(bounds, after)
    return unclipped(follow(bounds, axis, seen.stride))


def reshape_bounds(bounds: np.ndarray, old: Shape, new: Shape) -> np.ndarray:
    """Return bounds after a reshape. Axes along which all units see the same stay so."""
    full, target = [len(bounds)], [len(bounds)]
    for before, after in _groups(old, new):
        same = all(bounds.shape[a + 1] == 1 for a in before)
        full += [1 if same else old[a] for a in before]
        target += [1 if same else new[a] for a in after]
    return np.broadcast_to(bounds, full).reshape(target)


def _groups(old: Shape, new: Shape) -> Iterator[tuple[list[int], list[int]]]:
    """Yield the axes that a reshape turns into each other, as (old axes, new axes), in order."""
    i = j = 0
    while i < len(old) or j < len(new):
        a, b = (old[i] if i < len(old) else 1), (new[j] if j < len(new) else 1)
        if i < len(old) and j < len(new) and a == b:
            yield [i], [j]
            i, j = i + 1, j + 1
        elif i < len(old) and (a == 1 or j == len(new)):
            yield [i], []
            i += 1
        elif j < len(new) and (b == 1 or i == len(old)):
            yield [], [j]
            j += 1
        else:
            start, until = i, j
            i, j = i + 1, j + 1
            while a != b:
                if a < b:
                    a, i = a * old[i], i + 1
                else:
                    b, j = b * new[j], j + 1
            yield list(range(start, i)), list(range(until, j))
