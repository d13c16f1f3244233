"""Receptive fields, analysed forwards and backwards (Araujo, Norris & Sim, Distill 2019)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from cnn.errors import LayerError
from cnn.ops import WindowSpec
from cnn.ops.window import dilated

Interval = tuple[int, int]
"""The first and the last position."""


class Field(NamedTuple):
    """The receptive field of the units of a map, everything said per spatial axis, in pixels.

    Unit p sees the pixels p · stride − padding … p · stride − padding + size − 1, of which those
    outside the input are padding.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def centre(self) -> tuple[float, ...]:
        """Where the field of the first unit has its centre; pixel 0 has it at 0."""
        return tuple((r - 1) / 2 - p for r, p in zip(self.size, self.padding, strict=True))

    def of(self, unit: Sequence[int]) -> tuple[Interval, ...]:
        """Return the first and last pixel that the unit at this position sees, per axis."""
        starts = [p * s - lo for p, s, lo in zip(unit, self.stride, self.padding, strict=True)]
        return tuple((i, i + r - 1) for i, r in zip(starts, self.size, strict=True))


def one(rank: int) -> Field:
    """Return the field of the pixels themselves."""
    return Field((1,) * rank, (1,) * rank, (0,) * rank)


def grown(field: Field, at: WindowSpec) -> Field:
    """Return the field of windows on a map whose units have `field`.

    r ← r + (d − 1) S,  P ← P + lo · S,  S ← S s: the product of strides is carried along.
    """
    size, stride, padding = [], [], []
    spans = dilated(at.window, at.dilation)
    for r, S, P, d, s, (lo, _) in zip(*field, spans, at.strides, at.pairs, strict=True):
        size.append(r + (d - 1) * S)
        stride.append(S * s)
        padding.append(P + lo * S)
    return Field(tuple(size), tuple(stride), tuple(padding))


class Misaligned(LayerError):
    """Concat that meet do not look at the same place (Araujo et al. 2019, "alignment")."""


def united(name: str, fields: Sequence[Field | None], aligned: bool) -> Field | None:
    """Return the smallest field around those of branches that meet; `None` if one sees all.

    Raises `Misaligned` if the branches must be `aligned`, and differ in stride or centre.
    """
    known = [field for field in fields if field is not None]
    if len(known) < len(fields):
        return None
    looks = {(field.stride, field.centre) for field in known}
    if aligned and len(looks) > 1:
        said = " and ".join(f"stride {stride} from {centre}" for stride, centre in sorted(looks))
        raise Misaligned(
            name,
            f"its branches are not aligned, their fields stand at {said}: pad and stride them "
            "alike, or describe with aligned=False",
        )
    padding = _largest([field.padding for field in known])
    ends = [tuple(r - P for r, P in zip(f.size, f.padding, strict=True)) for f in known]
    size = tuple(end + P for end, P in zip(_largest(ends), padding, strict=True))
    return Field(size, _largest([field.stride for field in known]), padding)


def _largest(each: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(max, zip(*each, strict=True)))
