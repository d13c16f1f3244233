"""What a study leaves behind: a table on the terminal, and one HTML file that stands by itself."""

from __future__ import annotations

import html
import io
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn.train.run_dir import environment, write_atomic

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN_WIDTH = 3.4
"""Width in inches of a column in a two-column paper."""

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
BLACK, AMBER, SKY = "#000000", "#E69F00", "#56B4E9"
"""Colours that colour-blind readers tell apart (Okabe & Ito 2008); what is no rung of the ladder is
black, amber or sky blue."""

RUNGS = {
    "conv": BLUE,
    "tiled": SKY,
    "local": GREEN,
    "dense": ORANGE,
    "mlp": PINK,
    "logistic": GREY,
}
"""The colour of each rung of the ladder, in every figure."""

STYLE: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.fonttype": "none",
    "svg.hashsalt": "cnn",
    "savefig.dpi": 300,
}
"""Matplotlib settings of every figure: readable in a paper's column, the same bytes every time."""


def percent(values: np.ndarray) -> str:
    """Return the mean of fractions in percent, ± their sample deviation if there are several."""
    return number(100 * values, 2)


def number(values: np.ndarray, digits: int = 3) -> str:
    """Return the mean of `values`, ± their sample deviation if there are several."""
    mean = f"{values.mean():.{digits}f}"
    return f"{mean} ± {values.std(ddof=1):.{digits}f}" if len(values) > 1 else mean


def spread(scores: Sequence[np.ndarray]) -> tuple[list[float], list[float]]:
    """Return means and sample deviations, points and bars of a figure; 0 is that of one value."""
    means = [float(values.mean()) for values in scores]
    return means, [float(values.std(ddof=1)) if len(values) > 1 else 0.0 for values in scores]


@dataclass(frozen=True)
class Table:
    """A caption, column heads and rows of text; every column but the first is a number."""

    caption: str
    heads: Sequence[str]
    rows: Sequence[Sequence[str]]

    def show(self) -> None:
        """Print the table, never cutting a number off."""
        from rich.console import Console
        from rich.table import Table as RichTable

        table = RichTable(title=self.caption, title_justify="left")
        for i, head in enumerate(self.heads):
            table.add_column(head, justify="right" if i else "left", no_wrap=True)
        for row in self.rows:
            table.add_row(*row)
        wide = Console(width=1000).measure(table).maximum
        Console(width=max(Console().width, wide)).print(table)

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        rule = [":--", *["--:"] * (len(self.heads) - 1)]
        return "\n".join("| " + " | ".join(row) + " |" for row in [self.heads, rule, *self.rows])

    def to_html(self) -> str:
        """Return the table as an HTML element."""
        head = "".join(f"<th>{html.escape(h)}</th>" for h in self.heads)
        body = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self.rows
        )
        caption = html.escape(self.caption)
        return f"<table><caption>{caption}</caption><tr>{head}</tr>{body}</table>"


def save_figure(figure: Figure, path: Path) -> str:
    """Write `path` as .png and .svg, each whole or not at all, and return the SVG element."""
    import matplotlib as mpl

    image, drawing = io.BytesIO(), io.StringIO()
    with mpl.rc_context(STYLE):
        figure.savefig(image, format="png", bbox_inches="tight")
        figure.savefig(drawing, format="svg", bbox_inches="tight", metadata={"Date": None})
    write_atomic(path.with_suffix(".png"), image.getvalue())
    write_atomic(path.with_suffix(".svg"), drawing.getvalue())
    text = drawing.getvalue()
    return text[text.index("<svg") :]


def write_report(
    path: Path,
    title: str,
    text: Sequence[str],
    tables: Sequence[Table],
    drawings: Sequence[str],
    seconds: float,
) -> None:
    """Write the HTML page: question, findings, figures (SVG), tables, and how to get it again."""
    around = environment()
    facts = {
        "command": "python " + " ".join(sys.orig_argv[1:]),
        "time": f"{seconds:.0f} s",
        "machine": around["machine"] + ", " + ", ".join(sorted(set(around["devices"]))),
        "versions": ", ".join(f"{name} {version}" for name, version in around["versions"].items()),
        "Python": around["python"],
    }
    listed = "".join(
        f"<dt>{html.escape(k)}</dt><dd>{html.escape(v)}</dd>" for k, v in facts.items()
    )
    paragraphs = "".join(f"<p>{html.escape(p)}</p>" for p in text)
    figures = "".join(f"<figure>{drawing}</figure>" for drawing in drawings)
    listed_tables = "".join(f"<div class=wide>{table.to_html()}</div>" for table in tables)
    body = f"<h1>{html.escape(title)}</h1>{paragraphs}{figures}{listed_tables}<dl>{listed}</dl>"
    write_atomic(path, PAGE.format(title=html.escape(title), body=body))


PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 46rem; margin: 2rem auto; padding: 0 1rem;
       color: #222 }}
h1 {{ font-size: 1.5rem; line-height: 1.25 }}
figure {{ margin: 1.5rem 0 }} figure svg {{ width: 100%; max-width: 34rem; height: auto }}
.wide {{ overflow-x: auto }}
table {{ border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9rem }}
caption {{ text-align: left; padding-bottom: .4rem }}
th, td {{ padding: .25rem .8rem; text-align: right; border-bottom: 1px solid #ddd;
         white-space: nowrap }}
th:first-child, td:first-child {{ text-align: left; padding-left: 0 }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .2rem 1rem; font-size: .85rem;
     color: #555 }} dd {{ margin: 0; overflow-wrap: anywhere }}
</style></head><body>{body}</body></html>
"""
