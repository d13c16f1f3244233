"""Tables as HTML, for notebooks and reports."""

from __future__ import annotations

import html
from collections.abc import Sequence

LEFT = ' style="text-align: left"'


def html_table(
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    caption: str = "",
    names: int = 1,
    limit: int | None = None,
) -> str:
    """Return an HTML table, its text escaped.

    Args:
        heads: One for each column; without them the table has no head.
        rows: Cells as text.
        caption: Text above the table.
        names: Number of columns, from the left, that hold text. The others hold numbers and are
            aligned right.
        limit: Show so many rows, and how many more there are.
    """
    hidden = 0 if limit is None else max(0, len(rows) - limit)
    shown = [*rows[: len(rows) - hidden], *([[f"… {hidden:,} more"]] if hidden else [])]

    def line(cells: Sequence[str], tag: str) -> str:
        styles = [LEFT if i < names else "" for i in range(len(cells))]
        pairs = zip(cells, styles, strict=True)
        return f"<tr>{''.join(f'<{tag}{s}>{html.escape(c)}</{tag}>' for c, s in pairs)}</tr>"

    above = f"<caption{LEFT}>{html.escape(caption)}</caption>" if caption else ""
    head = f"<thead>{line(heads, 'th')}</thead>" if heads else ""
    body = "".join(line(row, "td") for row in shown)
    return f'<table style="text-align: right">{above}{head}<tbody>{body}</tbody></table>'
