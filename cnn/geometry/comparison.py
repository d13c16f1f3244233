"""What a change of one layer does to the geometry of all that follow."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from flax import linen as nn

from cnn.geometry.description import Geometry, Layer, describe
from cnn.geometry.tables import HEADS, cells, markdown, rich_table

if TYPE_CHECKING:
    from rich.table import Table as RichTable

Pair = tuple[Layer | None, Layer | None]

COMPARED = HEADS[:7]


@dataclass(frozen=True)
class Comparison:
    """Two networks on one input, and which layer of the one stands for which of the other."""

    a: Geometry
    b: Geometry
    pairs: tuple[Pair, ...]
    """In order; `None` where one of them has no such layer."""

    @property
    def changed(self) -> tuple[Pair, ...]:
        """The pairs that differ in more than their names."""
        return tuple(pair for pair in self.pairs if len({cells(x)[1:] for x in pair}) > 1)

    def rows(self) -> list[list[str]]:
        """Return the cells of a table below `COMPARED`: the pairs that changed, and the totals.

        A cell says "a → b" where the two differ, "–" for a layer that is not there.
        """
        both = [(cells(x), cells(y)) for x, y in self.changed]
        return [
            [x if x == y else f"{x or '–'} → {y or '–'}" for x, y in zip(*row, strict=True)][:7]
            for row in (*both, (self.a.total(), self.b.total()))
        ]

    def to_rich(self, title: str = "") -> RichTable:
        """Return the table for a terminal, to be printed by `rich.print`."""
        return rich_table(title, COMPARED, self.rows())

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return markdown(COMPARED, self.rows())


def compare(
    a: nn.Module, b: nn.Module, input_shape: Sequence[int], *, aligned: bool = True
) -> Comparison:
    """Describe `a` and `b` on one input and pair their layers, in order and by kind.

    Raises `LayerError` as `describe` does.
    """
    return pair(*(describe(model, input_shape, aligned=aligned) for model in (a, b)))


def pair(a: Geometry, b: Geometry) -> Comparison:
    """Pair the layers of two networks that are described already."""
    of_a, of_b = ([layer.kind for layer in geometry.layers] for geometry in (a, b))
    matcher = difflib.SequenceMatcher(None, of_a, of_b, autojunk=False)
    pairs: list[Pair] = []
    for _, i, j, k, m in matcher.get_opcodes():
        pairs += itertools.zip_longest(a.layers[i:j], b.layers[k:m])
    return Comparison(a, b, tuple(pairs))
