"""How a description is written: as text in columns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table as RichTable

    from cnn.geometry.description import Geometry, Layer

HEADS = (
    *("layer", "kind", "output", "parameters", "MACs"),
    *("field", "stride", "padding", "centre", "memory, kB"),
)


def cells(layer: Layer | None) -> tuple[str, ...]:
    """Write a layer below `HEADS`; nothing for no layer."""
    if layer is None:
        return ("",) * len(HEADS)
    shape = "×".join(map(str, layer.shape))
    return (layer.name, layer.kind, shape, *numbers(layer))


def numbers(of: Layer | Geometry) -> list[str]:
    """Write costs and field; what is said per axis, once where all axes are equal: "3×5", "7"."""
    places = ["all", "", "", ""]
    if seen := of.field:
        each = [[f"{v:g}" for v in axes] for axes in (*seen, seen.centre)]
        places = [v[0] if len(set(v)) == 1 else "×".join(v) for v in each]
    return [f"{of.params:,}", f"{of.macs:,}", *places, f"{of.memory / 1e3:,.1f}"]


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table as Markdown; its first two columns are names."""
    rule = (":--", ":--", *["--:"] * (len(heads) - 2))
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))


def rich_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> RichTable:
    """Write a table for a terminal; its first two columns are names."""
    from rich.table import Table

    table = Table(title=title, title_justify="left")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i > 1 else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
