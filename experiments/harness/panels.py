"""Draw one panel of a figure into axes of matplotlib."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from etils import epy

from experiments.harness.plots import (
    GREEN,
    GREY,
    ORANGE,
    OTHERS,
    RUNGS,
    Curves,
    Dots,
    HeatMap,
    Image,
    Interval,
    Intervals,
    Panel,
    Reference,
    Series,
)

with epy.lazy_imports():
    import numpy as np
    from matplotlib import lines, markers, patches, ticker

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.legend import Legend
    from matplotlib.lines import Line2D

VERDICTS: dict[str, dict[str, Any]] = {
    "holds": {"color": GREEN, "marker": "o"},
    "does not hold": {"color": ORANGE, "marker": "s"},
    "cannot tell": {"color": GREY, "marker": "o", "mfc": "white"},
}
"""Looks of the rows of `Intervals`."""


class PanelDrawing:
    """A panel drawn into axes, with the marks of its values in its own coordinates."""

    def __init__(self, axes: Axes, panel: Panel) -> None:
        self.axes, self.panel = axes, panel
        self.marks: list[tuple[float, float, str]] = []
        self.legend: dict[str, Any] = {}
        self.bars = ""
        self.seeds: set[int] = set()
        self.lines: list[Line2D] = []
        self.spans: list[tuple[float, float, str]] = []
        """Ends and text of the brackets."""
        axes.set(title=panel.title, xlabel=panel.x_label, ylabel=panel.y_label)
        kinds: Any = {Dots: self.dots, Curves: self.curves}
        kinds |= {HeatMap: self.heat_map, Image: self.image, Intervals: self.intervals}
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

        places = []
        for i, (series, (color, marker)) in enumerate(looks(panel.series)):
            at = _positions(series) + (i - (count - 1) / 2) * step - 0.03 * panel.seeds
            places.append(at)
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
        for left, right, text, of in panel.brackets:
            first, second = of if isinstance(of, tuple) else (of, of)
            self.spans.append((places[first][left], places[second][right], text))
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
        for series, (color, marker) in looks(panel.series):
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

    def intervals(self, panel: Intervals) -> None:
        axes, edges = self.axes, panel.edges
        pairs = zip(panel.x_limits, _reach(panel.rows), strict=True)
        left, right = (found if given is None else given for given, found in pairs)
        axes.axvline(0, color="black", lw=0.8)
        middles = [(top + bottom) / 2 for top, bottom in itertools.pairwise(edges)]
        for row, y, top, bottom in zip(panel.rows, middles, edges[:-1], edges[1:], strict=True):
            look = VERDICTS[row.verdict]
            start, end = max(row.above, left), min(row.below, right)
            shade: dict[str, Any] = {"color": GREEN, "alpha": 0.15, "lw": 0}
            corner, height = (start, top + 0.2), bottom - top - 0.4
            axes.add_patch(patches.Rectangle(corner, max(end - start, 0), height, **shade))
            if np.isfinite(row.mean):
                self.bar(row, y, look["color"], (left, right))
                axes.plot([row.mean], [y], **look, ms=4, zorder=3)
                self.marks.append((row.mean, y, f"{row.label}: {row.said}; {row.verdict}"))
            text: dict[str, Any] = {"color": look["color"], "va": "center", "size": 7}
            text["transform"] = axes.get_yaxis_transform()
            axes.text(1.02, y, f"{row.verdict}\n{row.said}", **text)
        axes.set_yticks(middles, ["\n".join(row.lines) for row in panel.rows])
        axes.tick_params("y", length=0)
        axes.spines["left"].set_visible(False)
        axes.locator_params("x", steps=[1, 2, 5, 10])
        axes.set(xlim=(left, right), ylim=(edges[-1], 0))

    def bar(self, row: Interval, y: float, color: str, limits: tuple[float, float]) -> None:
        """Draw an interval, with an arrow at each end that is outside the limits."""
        style: dict[str, Any] = {"color": color, "lw": 1.4, "ms": 5}
        arrows = (markers.CARETLEFT, markers.CARETRIGHT)
        for x, edge, arrow in zip((row.low, row.high), limits, arrows, strict=True):
            inside = limits[0] <= x <= limits[1]
            end = x if inside else edge
            self.axes.plot([row.mean, end], [y, y], **style)
            self.axes.plot([end], [y], marker="|" if inside else arrow, **style)

    def label_logs(self) -> None:
        """Label logarithmic axes with plain numbers, up to a million."""
        panel = self.panel
        if not isinstance(panel, Curves):
            return
        for letter in panel.log:
            low, high = sorted(getattr(self.axes, f"get_{letter}lim")())
            if low >= 0.001 and high <= 1e6 and not (letter == "x" and panel.ticks):
                axis = getattr(self.axes, f"{letter}axis")
                found = log_ticks(low, high, 9 if letter == "y" else 6)
                axis.set_ticks(found, labels=[f"{x:,.6g}" for x in found])
                axis.set_minor_formatter(ticker.NullFormatter())

    def statistics(self, series: Series) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean, and both ends of its bar, at each position; see `Curves`.

        Seeds without a value, NaN, do not count.
        """
        entries = [np.atleast_1d(np.asarray(values, float)) for values in series.values]
        known = [v if np.isnan(v).all() else v[~np.isnan(v)] for v in entries]
        counts = {len(v) for v, of in zip(known, entries, strict=True) if len(of) > 1}
        entries = known
        if isinstance(self.panel, Curves) and "y" in self.panel.log:
            found = [(np.exp(np.log(v).mean()), v.min(), v.max()) for v in entries]
            bars = "geometric mean and range"
        else:
            half = [v.std(ddof=1) if len(v) > 1 else 0 for v in entries]
            found = [(m := v.mean(), m - h, m + h) for v, h in zip(entries, half, strict=True)]
            bars = "mean ± s.d."
        if counts:
            self.bars = bars
            self.seeds |= counts
        middle, low, high = np.array(found, float).reshape(-1, 3).T
        return middle, low, high

    def add(self, series: Series, at: np.ndarray, drawn: Any) -> None:
        """Add a series to the legend, and a mark for each of its finite values."""
        if series.legend and series.label:
            self.legend[series.label] = drawn
        self.lines.append(drawn if isinstance(drawn, lines.Line2D) else drawn[0])
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

    def crosses(self, legend: Legend) -> bool:
        """Return whether a series runs, or has a value, under the legend."""
        box = legend.get_window_extent()
        paths = [line.get_path().transformed(line.get_transform()) for line in self.lines]
        return any(
            box.count_contains(path.vertices) > 0
            or (line.get_linestyle() != "None" and path.intersects_bbox(box, filled=False))
            for line, path in zip(self.lines, paths, strict=True)
        )

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


def log_ticks(low: float, high: float, most: int) -> np.ndarray:
    """Return at most about `most` numbers to label on a logarithmic axis.

    They are 1, 2, 3, ... or 1, 2, 5, 10, ... or 1, 10, 100, ...; in equal steps on a short axis.
    """
    powers = 10.0 ** np.arange(np.floor(np.log10(low)), np.log10(high) + 1)
    found = np.array([])
    for digits in (range(1, 10), (1, 2, 5), (1,)):
        found = np.outer(powers, digits).ravel()
        found = found[(low <= found) & (found <= high)]
        if len(found) <= most:
            break
    if len(found) > 2:
        return found
    found = np.asarray(ticker.MaxNLocator(5).tick_values(low, high))
    return found[(low <= found) & (found <= high)]


def _reach(rows: Sequence[Interval]) -> tuple[float, float]:
    """Return limits with 0, all means and ranges, and the bars that are not far longer than most.

    A bar may end beyond the means and ranges by all that they span, or by twice the median of half
    a bar.
    """
    values = np.array([0, *(x for row in rows for x in (row.mean, row.above, row.below))])
    values = values[np.isfinite(values)]
    bars = np.array([(row.low, row.high) for row in rows]).ravel()
    bars = bars[np.isfinite(bars)]
    low, high = values.min(), values.max()
    halves = [(row.high - row.low) / 2 for row in rows if np.isfinite(row.high - row.low)]
    room = max(high - low, 2 * np.median(halves or [0]))
    bars = bars[(low - room <= bars) & (bars <= high + room)]
    low, high = np.append(bars, low).min(), np.append(bars, high).max()
    margin = 0.06 * (high - low) or 1
    return float(low - margin), float(high + margin)


def _positions(series: Series) -> np.ndarray:
    return np.asarray(series.x if len(series.x) else range(len(series.values)), float)


def looks(series: Sequence[Series]) -> list[tuple[Series, tuple[str, str]]]:
    """Return each series with its colour and marker, as `Series` says."""
    groups = [one.label.partition(",")[0] for one in series]
    rungs = {group: RUNGS.get(group.partition("-")[0]) for group in groups}
    taken = {rung[0] for rung in rungs.values() if rung}
    free = [color for color, _ in OTHERS if color not in taken]
    others: dict[str, tuple[str, str]] = {}
    looks = []
    for one, group in zip(series, groups, strict=True):
        i = len(others)
        other = free[i % len(free)], OTHERS[i % len(OTHERS)][1]
        color, marker = rungs[group] or others.setdefault(group, other)
        looks.append((one, (one.color or color, marker if one.marker is None else one.marker)))
    return looks
