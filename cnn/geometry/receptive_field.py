"""Receptive fields of the units of a map (Araujo, Norris & Sim, Distill 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from cnn.errors import InputError, LayerError
from cnn.geometry.seen import CONTINUED, EXACT, NOTHING, Seen, along


class Field(NamedTuple):
    """The receptive field of the units of a map, per spatial axis of the input, in pixels.

    Unit p sees the pixels p · stride − padding … p · stride − padding + size − 1. Those outside
    the input are padding.
    """

    size: tuple[int, ...]
    """Of all units; if they are not `uniform`, of the one that sees most."""
    stride: tuple[int, ...]
    """0 on an axis along which units are not equally spaced, or all see the same."""
    padding: tuple[int, ...]
    """Pixels before the input that the first unit sees."""
    uniform: bool = True
    """Whether all units see as many pixels."""

    @property
    def centre(self) -> tuple[float, ...]:
        """The centre of the first unit's field; pixel 0 has its centre at 0."""
        return tuple((r - 1) / 2 - p for r, p in zip(self.size, self.padding, strict=True))

    @property
    def is_map(self) -> bool:
        """Whether the units form a map, with equal fields, equally spaced along every axis."""
        return self.uniform and all(self.stride)

    def of(self, unit: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the first and the last pixel that the unit of a map sees, per axis.

        Raises:
          InputError: if the field is not that of a map.
        """
        if not self.is_map:
            raise InputError(f"field must be that of a map, got {self}: use Geometry.field_of")
        starts = [p * s - lo for p, s, lo in zip(unit, self.stride, self.padding, strict=True)]
        return tuple((i, i + r - 1) for i, r in zip(starts, self.size, strict=True))


class MisalignedError(LayerError):
    """Branches that meet have fields of different strides or centres ("alignment issues")."""


def pixel_field(rank: int) -> Field:
    """Return the field of the pixels themselves."""
    return Field((1,) * rank, (1,) * rank, (0,) * rank)


def field_of(seen: Sequence[Seen], size: Sequence[int]) -> Field | None:
    """Return the field of the units of a value, on an input of this `size`.

    None if every unit sees the whole input, and none more than another.
    """
    axes = [_axis(s, n) for s, n in zip(seen, size, strict=True)]
    if all(map(sees_all, seen, size)) and not any(stride for _, stride, _, _ in axes):
        return None
    sizes, strides, paddings, uniform = zip(*axes, strict=True)
    return Field(sizes, strides, paddings, all(uniform))


def _axis(seen: Seen, n: int) -> tuple[int, int, int, bool]:
    """Return size, stride, padding and uniformity along one axis of the input."""
    if seen.axis is not None and seen.stride:
        first, last = -1 * along(seen.bounds, seen.axis)[CONTINUED] * np.array([[-1], [1]])
        return int(last[0] - first[0]) + 1, seen.stride, -int(first[0]), True
    first, last = seen.bounds[2].ravel(), -seen.bounds[3].ravel()
    some = first < NOTHING
    if not some.any():
        return 0, 0, 0, True
    sizes = (last - first + 1)[some]
    return int(sizes.max()), 0, -int(first[some][0]), bool((sizes == sizes[0]).all())


def sees_all(seen: Seen, n: int) -> bool:
    """Return whether every unit sees the whole input axis of size `n`."""
    first, last = seen.bounds[EXACT]
    return bool((first <= 0).all() and (last <= 1 - n).all())


def sees_beyond(seen: Seen) -> bool:
    """Return whether a unit of a map sees positions outside its field."""
    return bool(seen.stride) and bool((seen.bounds[EXACT] < seen.bounds[CONTINUED]).any())


def is_spread(seen: Seen) -> bool:
    """Return whether there are units at several positions."""
    return seen.axis is not None and seen.bounds.shape[seen.axis + 1] > 1


def misalignment(branches: Sequence[Sequence[Seen]]) -> str:
    """Return the strides and centres of fields of maps that meet, or "" if they are the same."""
    found = set()
    for seen in branches:
        if all(s.axis is not None and s.stride for s in seen):
            sizes, strides, paddings, _ = zip(*(_axis(s, 0) for s in seen), strict=True)
            found.add((strides, Field(sizes, strides, paddings).centre))
    texts = [f"stride {stride}, centre {centre}" for stride, centre in sorted(found)]
    return " and ".join(texts) if len(texts) > 1 else ""


def unit_field(
    seen: Sequence[Seen], unit: Sequence[int], size: Sequence[int]
) -> tuple[tuple[int, int], ...]:
    """Return the first and the last pixel that the unit at a position of a map sees, per axis.

    Positions of a regular map may lie in the padding. Of other units only pixels count.
    """
    if len(unit) != len(size):
        raise InputError(f"unit must have one number per spatial axis, {len(size)}, got {unit}")
    intervals = []
    for s, p in zip(seen, unit, strict=True):
        if s.axis is None:
            bounds, kept = s.bounds.reshape(4, -1).min(1), EXACT
        else:
            line = along(s.bounds, s.axis)
            if not 0 <= p < line.shape[1]:
                raise InputError(f"unit must be a position on the map, got {tuple(unit)}")
            bounds, kept = line[:, p], CONTINUED if s.stride else EXACT
        first, last = bounds[kept] * np.array([1, -1])
        intervals.append((int(first), int(last)) if first < NOTHING else (0, -1))
    return tuple(intervals)
