"""Draw figures with matplotlib, and say where their values are."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epy

from experiments.harness.panels import PanelDrawing

with epy.lazy_imports():
    import matplotlib as mpl
    from matplotlib import figure as mpl_figure

    from cnn.train import files

if TYPE_CHECKING:
    from experiments.harness.plots import Figure

STYLE: Any = {
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "grid.linewidth": 0.4,
    "grid.alpha": 0.5,
    "lines.linewidth": 1,
    "lines.markersize": 3.5,
    "errorbar.capsize": 2,
    "svg.fonttype": "none",
    "svg.hashsalt": "cnn",
    "savefig.dpi": 300,
}
"""Matplotlib settings of every figure: readable in a paper's column, and reproducible bytes."""


class Mark(NamedTuple):
    """A value in a drawing: its place, as fractions of width and height from the top left."""

    x: float
    y: float
    text: str


def save(figure: Figure, path: Path) -> list[Mark]:
    """Draw the figure, write `path` as .png and .svg, and return the marks."""
    drawn, marks = draw(figure)
    drawing = io.StringIO()
    with mpl.rc_context(STYLE):
        drawn.savefig(drawing, format="svg", metadata={"Date": None})
    files.write_atomic(path.with_suffix(".png"), to_png(drawn))
    files.write_atomic(path.with_suffix(".svg"), drawing.getvalue())
    return marks


def to_png(drawn: mpl_figure.Figure) -> bytes:
    """Return a figure that `draw` has drawn as PNG."""
    image = io.BytesIO()
    with mpl.rc_context(STYLE):
        drawn.savefig(image, format="png")
    return image.getvalue()


def draw(figure: Figure) -> tuple[mpl_figure.Figure, list[Mark]]:
    """Return the figure drawn by matplotlib, and a mark for every value in it."""
    with mpl.rc_context(STYLE):
        drawn = mpl_figure.Figure((figure.width, figure.height), layout="constrained")
        columns = drawn.subplots(1, len(figure.panels), sharey=figure.share_y, squeeze=False)[0]
        drawings = [PanelDrawing(*pair) for pair in zip(columns, figure.panels, strict=True)]
        if figure.share_y:
            for axes in columns[1:]:
                axes.set_ylabel("")
        _add_legends(drawn, figure, drawings)
        drawn.draw_without_rendering()  # decides where the panels are
    marks = []
    for drawing in drawings:
        to_figure = drawing.axes.transData + drawn.transFigure.inverted()
        for x, y, text in drawing.marks:
            left, bottom = map(float, to_figure.transform((x, y)))
            if 0 <= left <= 1 and 0 <= bottom <= 1:
                marks.append(Mark(round(left, 4), round(1 - bottom, 4), text))
    return drawn, marks


def _add_legends(
    drawn: mpl_figure.Figure, figure: Figure, drawings: Sequence[PanelDrawing]
) -> None:
    """Add the legends. Their title says what the bars are; without a legend, a line below does."""
    note = next((drawing.note for drawing in drawings if drawing.note), "")
    titled = bool(figure.legend)
    if figure.legend:
        entries = {label: handle for d in drawings for label, handle in d.legend.items()}
        fitting = int(20 * drawn.get_figwidth() / (max(map(len, entries), default=1) + 8))
        columns = 1 if figure.legend == "right" else max(1, min(len(entries), fitting))
        place = {"below": "lower center", "above": "upper center", "right": "right center"}
        where: dict[str, Any] = {"loc": f"outside {place[figure.legend]}", "ncols": columns}
        drawn.legend(entries.values(), entries.keys(), title=note, **where)
    for drawing in drawings:
        entries, place_in_panel = drawing.legend, drawing.panel.legend
        if figure.legend or len(entries) < 2 or not place_in_panel:
            continue
        style: dict[str, Any] = {"loc": place_in_panel, "title": drawing.note, "alignment": "left"}
        if place_in_panel == "below":
            style = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "ncols": 2}
        drawing.axes.legend(entries.values(), entries.keys(), **style)
        titled = titled or bool(style.get("title"))
    lines = [figure.note, "" if titled else note]
    drawn.supxlabel("; ".join(filter(None, lines)), size=7)
