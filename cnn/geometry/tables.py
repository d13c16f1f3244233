"""Tables of strings, as Markdown and for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from etils import epy

from cnn.html_table import html_table

with epy.lazy_imports():
    import rich.table


class Table:
    """What can be shown as `rows` below `heads`; the first two columns are names."""

    heads: ClassVar[tuple[str, ...]]

    def rows(self) -> Sequence[Sequence[str]]:
        """Return the rows of the table."""
        raise NotImplementedError

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        rule = (":--", ":--", *["--:"] * (len(self.heads) - 2))
        return "\n".join("| " + " | ".join(row) + " |" for row in (self.heads, rule, *self.rows()))

    def _repr_html_(self) -> str:
        return html_table(self.heads, self.rows(), names=2)

    def to_rich(self, title: str = "") -> rich.table.Table:
        """Return the table for `rich.print`."""
        table = rich.table.Table(title=title, title_justify="left")
        for i, head in enumerate(self.heads):
            table.add_column(head, justify="right" if i > 1 else "left", no_wrap=True)
        for row in self.rows():
            table.add_row(*row)
        return table
