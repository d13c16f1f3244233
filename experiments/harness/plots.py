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

from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal

from etils import epy

with epy.lazy_imports():
    import numpy as np

    from experiments.harness import drawing

if TYPE_CHECKING:
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
        return drawing.to_png(drawing.draw(self)[0])


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
