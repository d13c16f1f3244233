"""What a change of one layer does to the geometry of all layers after it."""

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from flax import linen as nn

from cnn.geometry.description import HEADS, Geometry, Layer, describe
from cnn.geometry.tables import Table

Pair = tuple[Layer | None, Layer | None]


@dataclass(frozen=True)
class Comparison(Table):
    """Two networks on one input, with their layers paired."""

    heads: ClassVar = HEADS[:7]

    a: Geometry
    b: Geometry
    pairs: tuple[Pair, ...]
    """In order; `None` where one of the networks has no such layer."""

    @property
    def changed(self) -> tuple[Pair, ...]:
        """The pairs that differ in more than their names."""
        return tuple(pair for pair in self.pairs if len({_cells(x)[1:] for x in pair}) > 1)

    def rows(self) -> list[list[str]]:
        """Return the rows of a table below `heads`: the pairs that changed, and the totals.

        A cell is "a → b" where the two differ, with "–" for a layer that does not exist.
        """
        both = [(_cells(x), _cells(y)) for x, y in self.changed]
        return [
            [x if x == y else f"{x or '–'} → {y or '–'}" for x, y in zip(*row, strict=True)][:7]
            for row in (*both, (self.a.total(), self.b.total()))
        ]


def _cells(layer: Layer | None) -> tuple[str, ...]:
    return layer.cells() if layer else ("",) * len(HEADS)


def compare(
    a: nn.Module, b: nn.Module, input_shape: Sequence[int], *, aligned: bool = True
) -> Comparison:
    """Describe `a` and `b` on one input, and pair their layers in order and by kind.

    Arguments and errors are those of `describe`.
    """
    first, second = (describe(m, input_shape, aligned=aligned) for m in (a, b))
    return pair(first, second)


def pair(a: Geometry, b: Geometry) -> Comparison:
    """Pair the layers of two networks that have been described."""
    first, second = ([layer.kind for layer in geometry.layers] for geometry in (a, b))
    matcher = difflib.SequenceMatcher(None, first, second, autojunk=False)
    pairs: list[Pair] = []
    for _, i, j, k, m in matcher.get_opcodes():
        pairs += itertools.zip_longest(a.layers[i:j], b.layers[k:m])
    return Comparison(a, b, tuple(pairs))
