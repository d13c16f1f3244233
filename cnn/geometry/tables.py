"""Tables of strings, as Markdown and for a terminal. The first two columns are names."""

from __future__ import annotations

from collections.abc import Sequence

from etils import epy

with epy.lazy_imports():
    import rich.table


def markdown(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Return the table as Markdown."""
    rule = (":--", ":--", *["--:"] * (len(heads) - 2))
    return "\n".join("| " + " | ".join(row) + " |" for row in (heads, rule, *rows))


def rich_table(title: str, heads: Sequence[str], rows: Sequence[Sequence[str]]) -> rich.table.Table:
    """Return the table for `rich.print`."""
    table = rich.table.Table(title=title, title_justify="left")
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i > 1 else "left", no_wrap=True)
    for row in rows:
        table.add_row(*row)
    return table
