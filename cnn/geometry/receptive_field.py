"""Receptive fields of the units of a map (Araujo, Norris & Sim, Distill 2019)."""

from collections.abc import Sequence
from typing import NamedTuple

from cnn.errors import LayerError
from cnn.ops import WindowSpec
from cnn.ops.window import dilated


class Field(NamedTuple):
    """The receptive field of every unit of a map, per spatial axis, in pixels.

    Unit p sees the pixels p · stride − padding … p · stride − padding + size − 1. Those outside
    the input are padding.
    """

    size: tuple[int, ...]
    stride: tuple[int, ...]
    padding: tuple[int, ...]

    @property
    def centre(self) -> tuple[float, ...]:
        """The centre of the first unit's field; pixel 0 has its centre at 0."""
        return tuple((r - 1) / 2 - p for r, p in zip(self.size, self.padding, strict=True))

    def of(self, unit: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the first and the last pixel that the unit at this position sees, per axis."""
        starts = [p * s - lo for p, s, lo in zip(unit, self.stride, self.padding, strict=True)]
        return tuple((i, i + r - 1) for i, r in zip(starts, self.size, strict=True))


class MisalignedError(LayerError):
    """Branches that meet have fields of different strides or centres ("alignment issues")."""


def pixel_field(rank: int) -> Field:
    """Return the field of the pixels themselves."""
    return Field((1,) * rank, (1,) * rank, (0,) * rank)


def compose(field: Field, spec: WindowSpec) -> Field:
    """Return the field after windows at `spec` on a map whose units have `field`.

    r ← r + (d − 1) S,  P ← P + lo · S,  S ← S s, with d the size of the dilated window.
    """
    size, stride, padding = [], [], []
    spans = dilated(spec.window, spec.dilation)
    for r, S, P, d, s, (lo, _) in zip(*field, spans, spec.strides, spec.pairs, strict=True):
        size.append(r + (d - 1) * S)
        stride.append(S * s)
        padding.append(P + lo * S)
    return Field(tuple(size), tuple(stride), tuple(padding))


def union(name: str, fields: Sequence[Field | None], aligned: bool) -> Field | None:
    """Return the smallest field that covers those of the branches that meet at layer `name`.

    `None`, for all positions, if one is `None`. With `aligned`, strides and centres must be equal.
    """
    known = [field for field in fields if field is not None]
    if len(known) < len(fields):
        return None
    found = sorted({(field.stride, field.centre) for field in known})
    if aligned and len(found) > 1:
        text = " and ".join(f"stride {stride}, centre {centre}" for stride, centre in found)
        raise MisalignedError(
            name,
            f"its branches are not aligned, their fields have {text}: give them equal padding and "
            "strides, or pass aligned=False",
        )
    padding = _maximum([field.padding for field in known])
    ends = [tuple(r - P for r, P in zip(f.size, f.padding, strict=True)) for f in known]
    size = tuple(end + P for end, P in zip(_maximum(ends), padding, strict=True))
    return Field(size, _maximum([field.stride for field in known]), padding)


def _maximum(each: Sequence[tuple[int, ...]]) -> tuple[int, ...]:
    return tuple(map(max, zip(*each, strict=True)))
