"""Tables of text, for a terminal and for HTML."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from etils import epy

from cnn.html_table import html_table

with epy.lazy_imports():
    import numpy as np
    from rich import console as rich_console
    from rich import table as rich_table


def percent(values: np.ndarray) -> str:
    """Return the mean of fractions in percent, ± their sample deviation if there are several."""
    return number(100 * values, 2)


def number(values: np.ndarray, digits: int = 3) -> str:
    """Return the mean of `values`, ± their sample deviation if there are several.

    A seed without a value has NaN there. It does not count, and the text says of how many the mean
    is.
    """
    known = values[~np.isnan(values)]
    if len(known) == 0:
        return "no value"
    text = f"{known.mean():.{digits}f}"
    text += f" ± {known.std(ddof=1):.{digits}f}" if len(known) > 1 else ""
    return text if len(known) == len(values) else f"{text} ({len(known)} of {len(values)} seeds)"


@dataclass(frozen=True)
class Table:
    """A caption, column heads and rows; every column but the first is aligned right.

    Cells are text. Given as numbers, counts get commas, and fractions by seed become `percent`.
    """

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[Any]]

    def __post_init__(self) -> None:
        object.__setattr__(self, "rows", [[_text(cell) for cell in row] for row in self.rows])

    def show(self) -> None:
        """Print the table."""
        table = rich_table.Table(title=self.caption, title_justify="left")
        for i, head in enumerate(self.heads):
            table.add_column(head, justify="right" if i else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        print_whole(table)

    def to_html(self) -> str:
        """Return the table as an HTML element, its text escaped."""
        return html_table(self.heads, self.rows, self.caption)

    _repr_html_ = to_html


def _text(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    return f"{cell:,}" if isinstance(cell, int) else percent(cell)


def in_notebook() -> bool:
    """Return whether this is Jupyter, where values show as HTML and printing would repeat them."""
    return rich_console.Console().is_jupyter


def print_whole(table: rich_table.Table) -> None:
    """Print the table, as wide as it needs to be."""
    # Names are the user's: "[bold]" is text.
    width = rich_console.Console(width=1000, markup=False, emoji=False).measure(table).maximum
    width = max(rich_console.Console().width, width)
    rich_console.Console(width=width, markup=False, emoji=False).print(table)
