"""Figures as values; `drawing` draws them.

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

import math
import textwrap
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from etils import epy

with epy.lazy_imports():
    import numpy as np

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from experiments.harness.claims import Verdict

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
    "global": (AMBER, "X"),
}
"""Colour and marker of each rung of the ladder, the same in every figure; "global" is conv with
global pooling."""

OTHERS = ((BLACK, "o"), (SKY, "^"), (GREY, "s"), (AMBER, "D"))
"""Colours and markers, in this order, of series that are not a rung. They do not get the colour of
a rung in the same panel."""


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


class Bracket(NamedTuple):
    """A bracket over two categories of `Dots`, with a text: a difference and its interval."""

    left: int
    """Index of a category; of the upper one if the dots are horizontal."""
    right: int
    text: str
    series: int | tuple[int, int] = 0
    """Index of the series, or one for each end."""


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
    brackets: Sequence[Bracket] = ()
    """Drawn above the panel, which makes the figure higher; right of it if horizontal."""


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
class Interval:
    """The interval of a difference, and the verdict on the claim that it is in a range."""

    label: str
    mean: float
    low: float
    high: float
    above: float = -math.inf
    """The claim holds from here ..."""
    below: float = math.inf
    """... to here."""
    verdict: Literal["holds", "does not hold", "cannot tell"] = "cannot tell"

    @property
    def lines(self) -> list[str]:
        """The label in lines of about 34 characters."""
        return textwrap.wrap(self.label, 34)

    @property
    def said(self) -> str:
        """The mean and the ends, to two digits of half the width."""
        half = (self.high - self.low) / 2
        if not math.isfinite(self.mean):
            return "no number"
        if not 0 < half < math.inf:
            return f"{self.mean:+.3g}{', no interval' * bool(half)}".replace("-", "−")
        digits = max(0, 1 - math.floor(math.log10(half)))
        mean, low, high = (f"{x:+.{digits}f}" for x in (self.mean, self.low, self.high))
        return f"{mean} ({low} to {high})".replace("-", "−")


@dataclass(frozen=True)
class Intervals(Panel):
    """A forest plot: a row for each claim, the first on top, over the range in which it holds.

    Bars that are infinite, or far longer than the others, end in an arrow at the edge.
    """

    rows: Sequence[Interval]

    @property
    def edges(self) -> list[float]:
        """The ends of the rows, in lines of text from the top."""
        lines = [max(len(row.lines), 2) + 0.8 for row in self.rows]
        return [sum(lines[:i]) for i in range(len(lines) + 1)]


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
    """A row of panels; `Intervals` stand below each other."""

    panels: Sequence[Panel]
    _: KW_ONLY
    height: float = 2.6
    """In inches."""
    share_y: bool = False
    """Give all panels the y axis of the first."""
    legend: str = ""
    """Where one legend for all panels is: "below", "above" or "right"; empty for one in each."""
    note: str = ""
    """Line of text below the panels, which cannot be together with a legend below."""

    def __post_init__(self) -> None:
        if self.note and self.legend == "below":
            raise ValueError(f"legend must not be below with a note, {self.note!r}: put it above")

    @property
    def width(self) -> float:
        """In inches: one column of a two-column paper for one panel, else two.

        `Intervals` have two columns, because of their texts.
        """
        return 6.8 if len(self.panels) > 1 or isinstance(self.panels[0], Intervals) else 3.4

    def __repr__(self) -> str:
        return f"<Figure: {', '.join(type(panel).__name__ for panel in self.panels)}>"


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


def intervals(verdicts: Sequence[Verdict], unit: str = "", *, part: str = "test") -> Figure:
    """Return a forest plot of the verdicts on a study's claims.

    All accuracies share a panel, in points; every other measure has its own.

    Args:
        verdicts: At least one.
        unit: Of the measures that are not accuracies.
        part: What the measures with "test" in their name are of.
    """
    measures = dict.fromkeys(one.claim.measure for one in verdicts)
    accuracies = [name for name in measures if name.endswith("accuracy")]
    others = [[name] for name in measures if name not in accuracies]
    panels = []
    for names in [accuracies, *others] if accuracies else others:
        scale, of = (100, "points") if names == accuracies else (1, unit)
        rows = []
        for one in verdicts:
            if (claim := one.claim).measure in names:
                numbers = (one.mean, one.low, one.high, claim.above, claim.below)
                mean, low, high, above, below = (scale * x for x in numbers)
                rows.append(Interval(claim.text, mean, low, high, above, below, one.verdict))
        what = names[0] if len(names) == 1 else "accuracy"
        what = what.replace("test_", f"{part}_", 1).replace("_", " ")
        panels.append(Intervals(rows, x_label=f"difference in {what}" + f" ({of})" * bool(of)))
    lines = sum(panel.edges[-1] for panel in panels)
    note = "bar: interval with Holm's correction; shaded: where the claim holds"
    return Figure(panels, height=0.2 + 0.4 * len(panels) + 0.125 * lines, note=note)
