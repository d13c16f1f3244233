"""Figures as values, and one place that draws them.

A study describes what a figure shows and never calls matplotlib:

    accuracy = [100 * results[rung, "ordered"]["test_accuracy"] for rung in rungs]
    plots.Figure([
        plots.Dots([plots.Series("ordered", accuracy)], categories=rungs, y_label="accuracy (%)")
    ])

`Series.values` holds one entry per position: an array with one value per seed, or one number. The
mean and the spread over seeds are computed here, from the same values as the text that a web page
shows when a reader points at a mark.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from etils import epy

from experiments.harness import results

with epy.lazy_imports():
    import matplotlib as mpl
    import numpy as np
    from matplotlib import figure as mpl_figure

    from cnn.train import run_dir

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

COLUMN_WIDTH = 3.4
"""Width in inches of a column in a two-column paper."""

BLUE, ORANGE, GREEN, PINK, GREY = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#666666"
BLACK, AMBER, SKY = "#000000", "#E69F00", "#56B4E9"
"""Colours that colour-blind readers can tell apart (Okabe & Ito 2008)."""

RUNGS = {
    "conv": (BLUE, "o"),
    "tiled": (SKY, "v"),
    "local": (GREEN, "^"),
    "dense": (ORANGE, "s"),
    "mlp": (PINK, "D"),
    "logistic": (GREY, "P"),
}
"""Colour and marker of each rung of the ladder, the same in every figure."""

OTHERS = ((BLACK, "o"), (AMBER, "^"), (SKY, "s"), (GREY, "D"))
"""Colours and markers, in this order, of series that are not a rung."""

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


@dataclass(frozen=True)
class Series:
    """Values at consecutive positions, in one colour."""

    label: str
    """Name in the legend. The name of a rung (`conv`, `tiled-2`, `dense, λ = 1`) gives its colour;
    other series that agree up to the first comma share a colour."""
    values: Sequence[ArrayLike]
    """One entry per position: an array with one value per seed, or one number."""
    x: Sequence[float] = ()
    """Positions; 0, 1, 2, ... if not given."""
    _: KW_ONLY
    line: str | None = None
    """Line style of matplotlib: "-", "--", ":" or "" for none; "-" in `Curves`, "" in `Dots`."""
    color: str = ""
    marker: str | None = None
    """Marker of matplotlib; "" draws none."""
    hollow: bool = False
    """Draw larger markers that are white inside."""
    alpha: float = 1.0
    interval: bool = False
    """Show the 95 % confidence interval of the mean (Student's t) instead of the deviation."""
    legend: bool = True
    """Put the label into the legend."""
    reference: Sequence[float | None] = ()
    """One value per position to draw as a tick, for example a published one; None draws none."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A line across a panel, or a band where a pair is given. Give either `x` or `y`."""

    x: float | tuple[float, float] | None = None
    y: float | tuple[float, float] | None = None
    label: str = ""
    color: str = GREY
    line: str = ":"


@dataclass(frozen=True)
class Panel:
    """What all kinds of panels have."""

    _: KW_ONLY
    title: str = ""
    x_label: str = ""
    y_label: str = ""
    x_limits: tuple[float | None, float | None] = (None, None)
    y_limits: tuple[float | None, float | None] = (None, None)
    legend: str = "best"
    """Location in the panel as in matplotlib ("lower left"), "below" the panel, or "" for none."""
    references: Sequence[Reference] = ()


@dataclass(frozen=True)
class Dots(Panel):
    """Means with error bars by category; the series stand side by side."""

    series: Sequence[Series]
    categories: Sequence[str]
    _: KW_ONLY
    horizontal: bool = False
    """Put the categories on the vertical axis, the first on top."""
    seeds: bool = False
    """Draw a dot for every seed as well."""
    reference_label: str = "published"
    """Name in the legend of the ticks `Series.reference`."""


@dataclass(frozen=True)
class Curves(Panel):
    """Means over a numeric axis, each with a band. On a logarithmic y axis the mean is geometric
    and the band is the range of the seeds."""

    series: Sequence[Series]
    _: KW_ONLY
    ticks: Sequence[str] = ()
    """Texts at the positions of the first series, instead of numbers."""
    log: Literal["", "x", "y", "xy"] = ""
    """Axes with a logarithmic scale."""


@dataclass(frozen=True)
class HeatMap(Panel):
    """Numbers as colours, with the number in each cell; the first row is at the bottom."""

    values: Sequence[Sequence[float]]
    rows: Sequence[str]
    columns: Sequence[str]
    _: KW_ONLY
    colors: str = "viridis"
    low: float | None = None
    """Value of the darkest colour; smaller values have the same one."""
    names: Sequence[tuple[str, str, str]] = ()
    """Cells with a name: row, column, name."""


@dataclass(frozen=True)
class Image(Panel):
    """An array with values from -1 (brown) over 0 (white) to 1 (purple); NaN draws nothing."""

    values: ArrayLike
    _: KW_ONLY
    stretch: bool = False
    """Fill the panel instead of drawing square cells."""
    axes: bool = False
    """Draw the axes."""


@dataclass(frozen=True)
class Figure:
    """A row of panels."""

    panels: Sequence[Panel]
    _: KW_ONLY
    height: float = 2.6
    """In inches. The width is one column of a paper for one panel, else two."""
    share_y: bool = False
    """Give all panels the y axis of the first."""
    legend: str = ""
    """Where one legend for all panels is: "below", "above" or "right"; empty for one in each."""
    note: str = ""
    """Line of text below the panels."""


class Mark(NamedTuple):
    """A value in a drawing: its place, as fractions of width and height from the top left."""

    x: float
    y: float
    text: str


def tile(images: ArrayLike, columns: int = 4, gap: int = 1) -> np.ndarray:
    """Return images side by side in one array, with NaN between them.

    Args:
        images: Shape `(n, height, width)`.
        columns: Images in a row.
        gap: Cells between two images.
    """
    images = np.asarray(images, float)
    pads = ((0, -len(images) % columns), (0, gap), (0, gap))
    padded = np.pad(images, pads, constant_values=np.nan)
    _, height, width = padded.shape
    rows = padded.reshape(-1, columns, height, width).swapaxes(1, 2)
    return rows.reshape(-1, columns * width)[:-gap, :-gap]


def to_json(figure: Figure) -> dict[str, Any]:
    """Return the figure as plain values, each panel with its `kind`; NaN becomes None."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        if hasattr(value, "tolist"):  # of NumPy
            value = value.tolist()
        if isinstance(value, Sequence) and not isinstance(value, str):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not np.isfinite(value) else value

    panels = [{"kind": type(panel).__name__, **asdict(panel)} for panel in figure.panels]
    found: dict[str, Any] = plain({**asdict(figure), "panels": panels})
    return found


def save(figure: Figure, path: Path) -> list[Mark]:
    """Draw the figure, write `path` as .png and .svg, and return the marks."""
    drawn, marks = draw(figure)
    save_drawing(drawn, path)
    return marks


def save_drawing(drawn: mpl_figure.Figure, path: Path) -> None:
    """Write a figure of matplotlib as .png and .svg, each whole or not at all."""
    image, drawing = io.BytesIO(), io.StringIO()
    with mpl.rc_context(STYLE):
        drawn.savefig(image, format="png")
        drawn.savefig(drawing, format="svg", metadata={"Date": None})
    run_dir.write_atomic(path.with_suffix(".png"), image.getvalue())
    run_dir.write_atomic(path.with_suffix(".svg"), drawing.getvalue())


def draw(figure: Figure) -> tuple[mpl_figure.Figure, list[Mark]]:
    """Return the figure drawn by matplotlib, and a mark for every value in it."""
    with mpl.rc_context(STYLE):
        width = COLUMN_WIDTH * (1 if len(figure.panels) == 1 else 2)
        drawn = mpl_figure.Figure((width, figure.height), layout="constrained")
        columns = drawn.subplots(1, len(figure.panels), sharey=figure.share_y, squeeze=False)[0]
        drawings = [
            _Drawing(axes, panel) for axes, panel in zip(columns, figure.panels, strict=True)
        ]
        for drawing in drawings:
            drawing.draw()
        if figure.share_y:
            for axes in columns[1:]:
                axes.set_ylabel("")
        _add_legends(drawn, figure, drawings)
        drawn.draw_without_rendering()  # decides where the panels are
    marks = []
    for drawing in drawings:
        for x, y, text in drawing.marks:
            left, bottom = drawn.transFigure.inverted().transform(
                drawing.axes.transData.transform((x, y))
            )
            if 0 <= left <= 1 and 0 <= bottom <= 1:
                marks.append(Mark(round(float(left), 4), round(1 - float(bottom), 4), text))
    return drawn, marks


def _add_legends(drawn: mpl_figure.Figure, figure: Figure, drawings: Sequence[_Drawing]) -> None:
    """Add the legends; what the bars are is their title, or a line below without a legend."""
    note = next((drawing.note for drawing in drawings if drawing.note), "")
    shown = False
    if figure.legend:
        entries = {label: handle for d in drawings for label, handle in d.legend.items()}
        longest = max((len(label) for label in entries), default=1)
        fitting = max(1, int(20 * drawn.get_figwidth() / (longest + 8)))
        place = {"below": "lower center", "above": "upper center", "right": "right center"}
        drawn.legend(
            entries.values(),
            entries.keys(),
            title=note or None,
            loc=f"outside {place[figure.legend]}",
            ncols=1 if figure.legend == "right" else min(len(entries), fitting),
        )
        shown = True
    else:
        for drawing in drawings:
            entries = drawing.legend
            if len(entries) < 2 or not drawing.panel.legend:
                continue
            below = drawing.panel.legend == "below"
            where: dict[str, Any] = (
                {"loc": "upper center", "bbox_to_anchor": (0.5, -0.22), "ncols": 2}
                if below
                else {"loc": drawing.panel.legend}
            )
            drawing.axes.legend(
                entries.values(),
                entries.keys(),
                title=None if below else drawing.note,
                alignment="left",
                **where,
            )
            shown = shown or bool(drawing.note and not below)
    lines = [figure.note, "" if shown else note]
    if text := "; ".join(line for line in lines if line):
        drawn.supxlabel(text, size=7)


class _Drawing:
    """A panel that is being drawn, with the marks of its values in its own coordinates."""

    def __init__(self, axes: Axes, panel: Panel) -> None:
        self.axes, self.panel = axes, panel
        self.marks: list[tuple[float, float, str]] = []
        self.legend: dict[str, Any] = {}
        self.note = ""

    def draw(self) -> None:
        axes, panel = self.axes, self.panel
        axes.set_title(panel.title)
        axes.set_xlabel(panel.x_label)
        axes.set_ylabel(panel.y_label)
        if isinstance(panel, Dots):
            self.dots(panel)
        elif isinstance(panel, Curves):
            self.curves(panel)
        elif isinstance(panel, HeatMap):
            self.heat_map(panel)
        elif isinstance(panel, Image):
            self.image(panel)
        for reference in panel.references:
            self.reference(reference)
        if panel.x_limits != (None, None):
            axes.set_xlim(panel.x_limits)
        if panel.y_limits != (None, None):
            axes.set_ylim(panel.y_limits)

    def dots(self, panel: Dots) -> None:
        axes, count = self.axes, len(panel.series)
        step = min(0.38 if panel.seeds else 0.24, 0.6 / count)
        references: list[Any] = []
        looks = _looks(panel.series)
        for i, (series, (color, marker)) in enumerate(zip(panel.series, looks, strict=True)):
            shift = (i - (count - 1) / 2) * step - (0.03 if panel.seeds else 0)
            at = _positions(series) + shift
            middle, low, high = self.statistics(series)
            xy = (middle, at) if panel.horizontal else (at, middle)
            bars = {"xerr" if panel.horizontal else "yerr": (middle - low, high - middle)}
            fill = "white" if panel.seeds or series.hollow else color
            style: dict[str, Any] = {"color": color, "mfc": fill, "alpha": series.alpha}
            drawn = axes.errorbar(*xy, fmt=marker + (series.line or ""), **bars, **style)
            self.add_to_legend(series, drawn)
            if panel.seeds:
                for place, values in zip(at + 0.13, series.values, strict=True):
                    values = np.atleast_1d(values)
                    xy = np.full(len(values), place), values
                    axes.plot(
                        *(xy[::-1] if panel.horizontal else xy), ".", color=color, alpha=0.6, mew=0
                    )
            known = [(x, y) for x, y in zip(at, series.reference, strict=False) if y is not None]
            if known:
                pair = tuple(zip(*known, strict=True))
                tick = {"marker": "|" if panel.horizontal else "_", "ls": "", "ms": 11, "mew": 1.4}
                color = color if count > 1 else GREY
                axes.plot(*(pair[::-1] if panel.horizontal else pair), color=color, **tick)
                references = axes.plot([], [], color=GREY, **tick)
            names = [text.replace("\n", " ") for text in panel.categories]
            self.mark(series, at, names, panel.horizontal)
        if references:
            self.legend[panel.reference_label] = references[0]
        ticks = range(len(panel.categories))
        if panel.horizontal:
            axes.set_yticks(ticks, panel.categories)
            axes.set_ylim(len(panel.categories) - 0.5, -0.5)
            axes.grid(axis="x")
        else:
            long = sum(len(text) + 2 for text in panel.categories) > 50
            slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(ticks, panel.categories, **slanted if long else {})
            axes.set_xlim(-0.5, len(panel.categories) - 0.5)
            axes.grid(axis="y")

    def curves(self, panel: Curves) -> None:
        axes = self.axes
        for letter in panel.log:
            getattr(axes, f"set_{letter}scale")("log")
        for series, (color, marker) in zip(panel.series, _looks(panel.series), strict=True):
            at = _positions(series)
            middle, low, high = self.statistics(series)
            style: dict[str, Any] = {"color": color, "alpha": series.alpha}
            if series.hollow:
                style |= {"mfc": "white", "ms": 6}
            line = "-" if series.line is None else series.line
            (drawn,) = axes.plot(at, middle, marker + line, **style)
            self.add_to_legend(series, drawn)
            if (high > low).any() and len(middle) > 1:
                axes.fill_between(at, low, high, color=color, alpha=0.15 * series.alpha, lw=0)
            elif (high > low).any():
                bars = middle - low, high - middle
                axes.errorbar(at, middle, bars, fmt="none", color=color)
            self.mark(series, at, panel.ticks)
        if panel.ticks:
            axes.set_xticks(_positions(panel.series[0]), panel.ticks)
            axes.minorticks_off()
        elif "x" not in panel.log:
            whole = all((_positions(one) % 1 == 0).all() for one in panel.series)
            axes.xaxis.get_major_locator().set_params(integer=whole)
        axes.grid(axis="y")

    def add_to_legend(self, series: Series, drawn: Any) -> None:
        if series.legend and series.label:
            self.legend[series.label] = drawn

    def statistics(self, series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean, and both ends of its bar, at each position; see `Series`, `Curves`."""
        entries = [np.atleast_1d(np.asarray(values, float)) for values in series.values]
        count = max((len(values) for values in entries), default=1)
        if isinstance(self.panel, Curves) and "y" in self.panel.log:
            what = "geometric mean and range"
            found = [(np.exp(np.log(v).mean()), v.min(), v.max()) for v in entries]
        else:
            what = "mean and 95 % interval" if series.interval else "mean ± s.d."
            found = []
            for v in entries:
                if series.interval and len(v) > 1:
                    half = results.paired(v, np.zeros_like(v))[1]
                else:
                    half = v.std(ddof=1) if len(v) > 1 else 0.0
                found.append((v.mean(), v.mean() - half, v.mean() + half))
        if count > 1:
            self.note = f"{what} of {count} seeds"
        middle, low, high = np.array(found).reshape(-1, 3).T
        return middle, low, high

    def mark(
        self,
        series: Series,
        at: np.ndarray,
        names: Sequence[str] = (),
        horizontal: bool = False,
    ) -> None:
        """Keep a mark for every finite value of a series."""
        place, value = self.panel.x_label, self.panel.y_label
        if horizontal:
            place, value = value, place
        numbers = zip(at, *self.statistics(series), strict=True)
        for i, (x, middle, low, high) in enumerate(numbers):
            if not np.isfinite(middle):
                continue
            name = names[i] if i < len(names) else f"{x:.4g}"
            text = f"{place} {name}; {value} {middle:.4g}".strip()
            if high > low:
                text += f" ({low:.4g} to {high:.4g})"
            text = f"{series.label}: {text}" if series.label else text
            self.marks.append((*((middle, x) if horizontal else (x, middle)), text))

    def heat_map(self, panel: HeatMap) -> None:
        axes, values = self.axes, np.asarray(panel.values, float)
        low = values.min() if panel.low is None else panel.low
        axes.imshow(values, cmap=panel.colors, aspect="auto", origin="lower", vmin=low)
        names = {(row, column): name for row, column, name in panel.names}
        for (i, j), value in np.ndenumerate(values):
            row, column = panel.rows[i], panel.columns[j]
            name = names.get((row, column), "")
            dark = value <= (low + values.max()) / 2
            style = {"color": "white" if dark else "black", "weight": "bold" if name else "normal"}
            text = f"{value:.1f}\n{name}".rstrip()
            axes.text(j, i, text, ha="center", va="center", size=7, **style)
            label = f"{panel.x_label} {column}; {panel.y_label} {row}; {panel.title} {value:.4g}"
            self.marks.append((j, i, label))
        axes.set_xticks(range(len(panel.columns)), panel.columns)
        axes.set_yticks(range(len(panel.rows)), panel.rows)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    def image(self, panel: Image) -> None:
        aspect: Literal["auto", "equal"] = "auto" if panel.stretch else "equal"
        self.axes.imshow(np.asarray(panel.values), cmap="PuOr", vmin=-1, vmax=1, aspect=aspect)
        if not panel.axes:
            self.axes.set_axis_off()

    def reference(self, reference: Reference) -> None:
        axes, across = self.axes, reference.x is None
        at = reference.y if across else reference.x
        if isinstance(at, tuple):
            band = axes.axhspan if across else axes.axvspan
            drawn: Any = band(*at, alpha=0.15, lw=0, color=reference.color)
        else:
            line = axes.axhline if across else axes.axvline
            drawn = line(at or 0, ls=reference.line, lw=0.8, color=reference.color)
        if reference.label:
            self.legend[reference.label] = drawn


def _positions(series: Series) -> np.ndarray:
    return np.asarray(series.x if len(series.x) else range(len(series.values)), float)


def _looks(series: Sequence[Series]) -> list[tuple[str, str]]:
    """Return the colour and the marker of each series, as `Series` says."""
    others: dict[str, tuple[str, str]] = {}
    looks = []
    for one in series:
        group = one.label.partition(",")[0]
        rung = RUNGS.get(group.partition("-")[0])
        look = rung or others.setdefault(group, OTHERS[len(others) % len(OTHERS)])
        looks.append((one.color or look[0], look[1] if one.marker is None else one.marker))
    return looks
