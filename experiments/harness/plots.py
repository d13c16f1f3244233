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

with epy.lazy_imports():
    import matplotlib as mpl
    import numpy as np
    from matplotlib import figure as mpl_figure
    from matplotlib import patches

    from cnn.train import files

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from numpy.typing import ArrayLike

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
    line: str = "-"
    """Line style of matplotlib in `Curves`: "-", "--", ":" or "" for none."""
    color: str = ""
    marker: str | None = None
    """Marker of matplotlib; "" draws none."""
    hollow: bool = False
    """Draw larger markers that are white inside."""
    alpha: float = 1.0
    legend: bool = True
    """Put the label into the legend."""
    reference: Sequence[float | None] = ()
    """One value per position to draw as a tick, for example a published one; None draws none."""


@dataclass(frozen=True, kw_only=True)
class Reference:
    """A line across a panel at `x` or at `y`, a band for a pair, or a box for two pairs."""

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
    signed: bool = True
    """If not, the values are from 0 (white) to 1 (dark grey)."""
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
    """In inches."""
    share_y: bool = False
    """Give all panels the y axis of the first."""
    legend: str = ""
    """Where one legend for all panels is: "below", "above" or "right"; empty for one in each."""
    note: str = ""
    """Line of text below the panels."""

    @property
    def width(self) -> float:
        """In inches: one column of a two-column paper for one panel, else two."""
        return 3.4 if len(self.panels) == 1 else 6.8

    def __repr__(self) -> str:
        return f"<Figure: {', '.join(type(panel).__name__ for panel in self.panels)}>"

    def _repr_png_(self) -> bytes:
        return to_png(draw(self)[0])


class Mark(NamedTuple):
    """A value in a drawing: its place, as fractions of width and height from the top left."""

    x: float
    y: float
    text: str


def tile(images: ArrayLike, columns: int = 4) -> np.ndarray:
    """Return `images`, `(n, height, width)`, in rows of `columns`, with a cell of NaN between."""
    images = np.asarray(images, float)
    pads = ((0, -len(images) % columns), (0, 1), (0, 1))
    padded = np.pad(images, pads, constant_values=np.nan)
    _, height, width = padded.shape
    rows = padded.reshape(-1, columns, height, width).swapaxes(1, 2)
    return rows.reshape(-1, columns * width)[:-1, :-1]


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
    found: dict[str, Any] = plain({**asdict(figure), "panels": panels, "width": figure.width})
    return found


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
        drawings = [_Drawing(*pair) for pair in zip(columns, figure.panels, strict=True)]
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


def _add_legends(drawn: mpl_figure.Figure, figure: Figure, drawings: Sequence[_Drawing]) -> None:
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


class _Drawing:
    """A panel drawn into axes, with the marks of its values in its own coordinates."""

    def __init__(self, axes: Axes, panel: Panel) -> None:
        self.axes, self.panel = axes, panel
        self.marks: list[tuple[float, float, str]] = []
        self.legend: dict[str, Any] = {}
        self.note = ""
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        kinds: Any = {Dots: self.dots, Curves: self.curves}
        kinds |= {HeatMap: self.heat_map, Image: self.image}
        kinds[type(panel)](panel)
        for reference in panel.references:
            self.reference(reference)
        if panel.x_limits != (None, None):
            axes.set_xlim(*panel.x_limits)
        if panel.y_limits != (None, None):
            axes.set_ylim(*panel.y_limits)

    def dots(self, panel: Dots) -> None:
        axes, count, turned = self.axes, len(panel.series), panel.horizontal
        step = min(0.38 if panel.seeds else 0.24, 0.6 / count)
        tick: dict[str, Any] = {"marker": "|" if turned else "_", "ls": "", "ms": 11, "mew": 1.4}
        published: Any = None

        def plot(at: Any, values: Any, *args: Any, **style: Any) -> Any:
            return axes.plot(*(values, at) if turned else (at, values), *args, **style)[0]

        for i, (series, (color, marker)) in enumerate(_looks(panel.series)):
            at = _positions(series) + (i - (count - 1) / 2) * step - 0.03 * panel.seeds
            middle, low, high = self.statistics(series)
            style: dict[str, Any] = {"fmt": marker, "color": color}
            style["mfc"] = "white" if panel.seeds else color
            style["xerr" if turned else "yerr"] = middle - low, high - middle
            pair: dict[str, Any] = {"x": middle, "y": at} if turned else {"x": at, "y": middle}
            self.add(series, at, axes.errorbar(**pair, **style))
            for place, values in zip(at + 0.13, series.values if panel.seeds else (), strict=False):
                values = np.atleast_1d(values)
                plot(np.full(len(values), place), values, ".", color=color, alpha=0.6, mew=0)
            if series.reference:
                known = [np.nan if y is None else y for y in series.reference]
                plot(at, known, color=color if count > 1 else GREY, **tick)
                published = axes.plot([], [], color=GREY, **tick)[0]
        if published:
            self.legend[panel.reference_label] = published
        ticks, limits = range(len(panel.categories)), (-0.5, len(panel.categories) - 0.5)
        if turned:
            axes.set_yticks(ticks, panel.categories)
            axes.set_ylim(limits[::-1])
        else:
            long = sum(len(text) + 2 for text in panel.categories) > 50
            slanted: dict[str, Any] = {"rotation": 30, "ha": "right", "rotation_mode": "anchor"}
            axes.set_xticks(ticks, panel.categories, **slanted if long else {})
            axes.set_xlim(limits)
        axes.grid(axis="x" if turned else "y")

    def curves(self, panel: Curves) -> None:
        axes = self.axes
        for letter in panel.log:
            getattr(axes, f"set_{letter}scale")("log")
        for series, (color, marker) in _looks(panel.series):
            at, (middle, low, high) = _positions(series), self.statistics(series)
            style: dict[str, Any] = {"color": color, "alpha": series.alpha}
            style |= {"ls": series.line, "marker": marker}
            style |= {"mfc": "white", "ms": 6} if series.hollow else {}
            self.add(series, at, axes.plot(at, middle, **style)[0])
            if len(middle) > 1:
                axes.fill_between(at, low, high, color=color, alpha=0.15 * series.alpha, lw=0)
            elif (high > low).all():
                axes.errorbar(at, middle, (middle - low, high - middle), fmt="none", color=color)
        if panel.ticks:
            axes.set_xticks(_positions(panel.series[0]), panel.ticks)
            axes.minorticks_off()
        elif "x" not in panel.log:
            whole = all((_positions(series) % 1 == 0).all() for series in panel.series)
            axes.locator_params("x", integer=whole)
        axes.grid(axis="y")

    def statistics(self, series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean, and both ends of its bar, at each position; see `Curves`."""
        entries = [np.atleast_1d(np.asarray(values, float)) for values in series.values]
        count = max((len(values) for values in entries), default=1)
        if isinstance(self.panel, Curves) and "y" in self.panel.log:
            found = [(np.exp(np.log(v).mean()), v.min(), v.max()) for v in entries]
            what = "geometric mean and range"
        else:
            half = [v.std(ddof=1) if len(v) > 1 else 0 for v in entries]
            found = [(m := v.mean(), m - h, m + h) for v, h in zip(entries, half, strict=True)]
            what = "mean ± s.d."
        if count > 1:
            self.note = f"{what} of {count} seeds"
        middle, low, high = np.array(found, float).reshape(-1, 3).T
        return middle, low, high

    def add(self, series: Series, at: np.ndarray, drawn: Any) -> None:
        """Add a series to the legend, and a mark for each of its finite values."""
        if series.legend and series.label:
            self.legend[series.label] = drawn
        panel, turned = self.panel, isinstance(self.panel, Dots) and self.panel.horizontal
        names = panel.categories if isinstance(panel, Dots) else getattr(panel, "ticks", ())
        place, value = (panel.x_label, panel.y_label)[:: -1 if turned else 1]
        for i, (x, middle, low, high) in enumerate(zip(at, *self.statistics(series), strict=True)):
            if np.isfinite(middle):
                name = names[i].replace("\n", " ") if i < len(names) else f"{x:.4g}"
                text = f"{place} {name}; {value} {middle:.4g}".strip()
                text += f" ({low:.4g} to {high:.4g})" if high > low else ""
                text = f"{series.label}: {text}" if series.label else text
                self.marks.append((middle, x, text) if turned else (x, middle, text))

    def heat_map(self, panel: HeatMap) -> None:
        axes, values = self.axes, np.asarray(panel.values, float)
        low = values.min() if panel.low is None else panel.low
        axes.imshow(values, cmap=panel.colors, aspect="auto", origin="lower", vmin=low)
        names = {(row, column): name for row, column, name in panel.names}
        for (i, j), value in np.ndenumerate(values):
            row, column = panel.rows[i], panel.columns[j]
            name = names.get((row, column), "")
            color = "white" if value <= (low + values.max()) / 2 else "black"
            style: dict[str, Any] = {"color": color, "weight": "bold" if name else "normal"}
            style |= {"ha": "center", "va": "center", "size": 7}
            axes.text(j, i, f"{value:.1f}\n{name}".strip(), **style)
            where = f"{panel.x_label} {column}; {panel.y_label} {row}"
            self.marks.append((j, i, f"{where}; {panel.title} {value:.4g}"))
        axes.set_xticks(range(len(panel.columns)), panel.columns)
        axes.set_yticks(range(len(panel.rows)), panel.rows)
        axes.spines[:].set_visible(False)
        axes.tick_params(length=0)

    def image(self, panel: Image) -> None:
        aspect: Literal["auto", "equal"] = "auto" if panel.stretch else "equal"
        cmap, low, high = ("PuOr", -1, 1) if panel.signed else ("Greys", 0, 1.3)
        self.axes.imshow(np.asarray(panel.values), cmap=cmap, vmin=low, vmax=high, aspect=aspect)
        if not panel.axes:
            self.axes.set_axis_off()

    def reference(self, reference: Reference) -> None:
        axes, across = self.axes, reference.x is None
        at = reference.y if across else reference.x
        if isinstance(reference.x, tuple) and isinstance(reference.y, tuple):
            (left, right), (low, high) = reference.x, reference.y
            style: dict[str, Any] = {"ec": reference.color, "ls": reference.line, "lw": 1.2}
            box = patches.Rectangle((left, low), right - left, high - low, fill=False, **style)
            drawn: Any = axes.add_patch(box)
        elif isinstance(at, tuple):
            band = axes.axhspan if across else axes.axvspan
            drawn = band(*at, alpha=0.15, lw=0, color=reference.color)
        else:
            line = axes.axhline if across else axes.axvline
            drawn = line(at or 0, ls=reference.line, lw=0.8, color=reference.color)
        if reference.label:
            self.legend[reference.label] = drawn


def _positions(series: Series) -> np.ndarray:
    return np.asarray(series.x if len(series.x) else range(len(series.values)), float)


def _looks(series: Sequence[Series]) -> list[tuple[Series, tuple[str, str]]]:
    """Return each series with its colour and marker, as `Series` says."""
    others: dict[str, tuple[str, str]] = {}
    looks = []
    for one in series:
        group = one.label.partition(",")[0]
        rung = RUNGS.get(group.partition("-")[0])
        color, marker = rung or others.setdefault(group, OTHERS[len(others) % len(OTHERS)])
        looks.append((one, (one.color or color, marker if one.marker is None else one.marker)))
    return looks
