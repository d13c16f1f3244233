"""Draw figures with matplotlib, and say where their values are."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epy

from experiments.harness import brackets
from experiments.harness.panels import PanelDrawing
from experiments.harness.plots import Intervals

with epy.lazy_imports():
    import matplotlib as mpl
    from matplotlib import figure as mpl_figure
    from matplotlib import transforms

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
        heights = [panel.edges[-1] for panel in figure.panels if isinstance(panel, Intervals)]
        shape: Any = (len(heights), 1) if heights else (1, len(figure.panels))
        ratios: dict[str, Any] = {"height_ratios": heights or [1]}
        grid = drawn.subplots(*shape, sharey=figure.share_y, squeeze=False, **ratios).ravel()
        drawings = [PanelDrawing(*pair) for pair in zip(grid, figure.panels, strict=True)]
        if figure.share_y:
            for axes in grid[1:]:
                axes.set_ylabel("")
        for drawing in drawings:
            drawing.label_logs()
        _add_legends(drawn, figure, drawings)
        drawn.draw_without_rendering()  # decides where the panels are
        for move_out in (_move_legend, _add_brackets):
            rooms = [room for one in drawings if (room := move_out(one)) is not None]
            if rooms:
                drawn.set_figheight(drawn.get_figheight() + max(rooms) / 72)
                drawn.draw_without_rendering()
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
    note = _what_bars_are(drawings)
    titled = bool(figure.legend)
    if figure.legend:
        entries = {label: handle for d in drawings for label, handle in d.legend.items()}
        columns = 1 if figure.legend == "right" else _columns(entries, drawn.get_figwidth())
        place = {"below": "lower center", "above": "upper center", "right": "right center"}
        where: dict[str, Any] = {"loc": f"outside {place[figure.legend]}", "ncols": columns}
        drawn.legend(entries.values(), entries.keys(), title=note, **where)
    for drawing in drawings:
        entries, place_in_panel = drawing.legend, drawing.panel.legend
        if figure.legend or len(entries) < 2 or not place_in_panel:
            continue
        below = place_in_panel == "below"
        narrow = textwrap.fill(_what_bars_are([drawing]), 24)  # so that it finds more room
        title = "" if below else narrow
        style: dict[str, Any] = {"loc": "best" if below else place_in_panel, "alignment": "left"}
        drawing.axes.legend(entries.values(), entries.keys(), title=title, **style)
        titled = titled or bool(title)
    lines = [figure.note, "" if titled else note]
    drawn.supxlabel("; ".join(filter(None, lines)), size=7)


def _what_bars_are(drawings: Sequence[PanelDrawing]) -> str:
    """Return what marks and bars are, and of how many seeds; nothing without bars."""
    bars = next((drawing.bars for drawing in drawings if drawing.bars), "")
    if not bars:
        return ""
    seeds = {n for drawing in drawings if drawing.bars == bars for n in drawing.seeds}
    ends = sorted({min(seeds), max(seeds)})
    return f"{bars} of {' to '.join(map(str, ends))} seeds"


def _columns(labels: Collection[str], width: float) -> int:
    """Return how many columns of a legend fit into so many inches."""
    fitting = int(20 * width / (max(map(len, labels), default=1) + 8))
    return max(1, min(len(labels), fitting))


def _move_legend(drawing: PanelDrawing) -> float | None:
    """Move a legend below its panel if it is to be there or lies on a series.

    Returns:
        How much higher the figure should be, in points: by a legend that was to be in the panel.
        None if nothing moved.
    """
    axes, place, entries = drawing.axes, drawing.panel.legend, drawing.legend
    legend, labels = axes.get_legend(), axes.xaxis.get_tightbbox()
    if legend is None or place not in ("best", "below"):
        return None
    if place == "best" and not drawing.crosses(legend):
        return None
    point = axes.figure.dpi / 72
    height = (axes.bbox.y0 - labels.y0) / point if labels else 0.0
    down = transforms.ScaledTranslation(0, -height / 72, axes.figure.dpi_scale_trans)
    style: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, 0)}
    style |= {"bbox_transform": axes.transAxes + down}
    style["ncols"] = _columns(entries, axes.bbox.width / axes.figure.dpi)
    title = legend.get_title().get_text().replace("\n", " ")
    moved = axes.legend(entries.values(), entries.keys(), title=title, **style)
    return moved.get_window_extent().height / point if place == "best" else 0.0


def _add_brackets(drawing: PanelDrawing) -> float | None:
    """Add the brackets, and return the room that they need above the panel, in points."""
    if not drawing.spans:
        return None
    turned = getattr(drawing.panel, "horizontal", False)
    room = brackets.add(drawing.axes, drawing.spans, turned)
    if turned:
        return 0.0
    drawing.axes.set_title(drawing.panel.title, pad=room + 6)
    return room
