"""The plane of locality × sharing: what is each worth where the other is strong or weak?

    python -m experiments.bias_map                       # MNIST-1D
    python -m experiments.bias_map --data digits         # 8×8 images
    python -m experiments.bias_map --data fashion_mnist --data-dir DIR

One axis is the radius Δ: how far from the centre of its window an output sees, per axis, from the
position itself to the whole map. The other is the period of sharing: at 1 all positions have one
kernel, at P every P-th has the same, at "all" each has its own. Three corners have names: small Δ
and period 1 is the convolution, small Δ and "all" the locally connected layer, full Δ and "all" the
fully connected one; the fourth, full Δ and period 1, shares a kernel that sees the whole map. Only
the two biases differ: output sizes, widths, the head and the recipe are the same everywhere.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnn.data import Dataset
    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "What is locality worth with and without sharing, and sharing with and without locality?"
HYPOTHESIS = (
    "test accuracy is highest at a small radius with full sharing, and each bias is worth more "
    "where the other is missing."
)
FULL, ALL = "full", "all"


@dataclass(frozen=True, kw_only=True)
class Study(study.Settings):
    """The grid, and what is kept all over it."""

    data: str = "mnist1d"
    """Data set: mnist1d (one axis), or images: digits, fashion_mnist, ..."""
    data_dir: Path | None = None
    """Where prepared TFDS sets are."""
    radii: tuple[int, ...] = (0, 1, 2, 4, 8)
    """Radii Δ; those that reach all over the input are left to the full one."""
    periods: tuple[int, ...] = (1, 2, 4)
    """Periods of sharing; those as long as the smallest map are left to all positions."""
    seeds: int = 3
    """Seeds per point; a seed has the same data order at every point."""
    out: Path = Path("results/bias_map")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def ablate(model: nn.Module, data: Dataset, radius: str, period: str) -> nn.Module:
    """Return the network at one point of the plane."""
    from cnn.ablations import localize, rewindow, share, tile
    from cnn.geometry import trace
    from cnn.layers import ConvBase
    from cnn.layers.tree import leaves

    if period == ALL:
        return localize(model, None if radius == FULL else int(radius))
    seen = trace(model, data.input_shape)
    for name, layer in leaves(model).items():
        if isinstance(layer, ConvBase):
            size = seen[name].input[:-1]
            window = [2 * (n - 1 if radius == FULL else int(radius)) + 1 for n in size]
            model = rewindow(model, tuple(window), where=name)
    return share(model) if period == "1" else tile(model, int(period))


def points(settings: Study) -> dict[Name, Config]:
    """Return the grid, radius by period."""
    from cnn.data import load
    from cnn.geometry import describe
    from cnn.train import Config
    from experiments.ladder import base

    data = load(settings.data, settings.data_dir)
    model = base(data)
    smallest = min(min(layer.shape[:-1]) for layer in describe(model, data.input_shape).local)
    radii = [str(r) for r in settings.radii if r < min(data.input_shape[:-1]) - 1]
    periods = [str(p) for p in settings.periods if p < smallest]
    return {
        (radius, period): Config(
            model=ablate(model, data, radius, period), data=data, **settings.recipe()
        )
        for radius in (*radii, FULL)
        for period in (*periods, ALL)
    }


def grid(results: Mapping[Name, Outcome], value: str) -> np.ndarray:
    """Return `value` in percent, mean over seeds, as `(radius, period)`; "gap" is train − test."""
    import numpy as np

    radii, periods = (dict.fromkeys(name[i] for name in results) for i in (0, 1))

    def mean(outcome: Outcome) -> float:
        if value == "gap":
            return float((outcome["train_accuracy"] - outcome["test_accuracy"]).mean())
        return float(outcome[value].mean())

    return 100 * np.array([[mean(results[r, p]) for p in periods] for r in radii])


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return test accuracy in percent, a row per radius, a column per period."""
    from experiments.harness.report import Table, percent

    radii, periods = (list(dict.fromkeys(name[i] for name in results)) for i in (0, 1))
    rows = [[r, *(percent(results[r, p]["test_accuracy"]) for p in periods)] for r in radii]
    part = "Validation" if settings.validate else "Test"
    caption = (
        f"{part} accuracy on {settings.data} in percent, mean ± standard deviation over "
        f"{settings.seeds} seeds, {settings.steps:,} steps"
    )
    return Table(caption, ["radius", *(f"period {p}" for p in periods)], rows)


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw test accuracy, and its distance from training accuracy, over the plane."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, STYLE

    part = "validation" if settings.validate else "test"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.9), layout="constrained")
        left, right = figure.subplots(1, 2)
        heat(left, results, "test_accuracy", f"{part} accuracy (%)", "viridis")
        heat(right, results, "gap", f"training − {part} accuracy (points)", "cividis")
        right.set_ylabel("")
    return figure


def heat(axes: Axes, results: Mapping[Name, Outcome], value: str, title: str, colours: str) -> None:
    """Draw one heat map, every cell with its number, the corners with their names."""
    values = grid(results, value)
    radii, periods = (list(dict.fromkeys(name[i] for name in results)) for i in (0, 1))
    # A window of one position may be so much worse that it would take all the colours.
    low = values.min() if value == "gap" else values[1:].min()
    axes.imshow(values, cmap=colours, aspect="auto", origin="lower", vmin=low)
    middle = (low + values.max()) / 2
    near = next(r for r in ("1", "2", radii[0]) if r in radii)
    corners = {(near, "1"): "conv", (near, ALL): "local", (FULL, ALL): "dense"}
    for i, radius in enumerate(radii):
        for j, period in enumerate(periods):
            named = corners.get((radius, period))
            text = f"{values[i, j]:.1f}" + (f"\n{named}" if named else "")
            colour = "black" if values[i, j] > middle else "white"
            weight = "bold" if named else "normal"
            axes.text(j, i, text, ha="center", va="center", color=colour, size=7, weight=weight)
    axes.set_xticks(range(len(periods)), periods)
    axes.set_yticks(range(len(radii)), radii)
    axes.set_xlabel("period of sharing (positions)")
    axes.set_ylabel("radius of locality (positions)")
    axes.set_title(title)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    radii, periods = (list(dict.fromkeys(name[i] for name in results)) for i in (0, 1))
    mean = {name: 100 * outcome["test_accuracy"].mean() for name, outcome in results.items()}
    best = max(mean, key=lambda name: mean[name])
    local = max((r for r in radii if r != FULL), key=lambda r: mean[r, periods[0]])
    pairs = [
        ((local, periods[0]), (local, ALL)),
        ((FULL, periods[0]), (FULL, ALL)),
        ((local, periods[0]), (FULL, periods[0])),
        ((local, ALL), (FULL, ALL)),
    ]
    worth = [mean[a] - mean[b] for a, b in pairs]
    findings = [
        f"Sharing is worth {worth[0]:.1f} points at radius {local}, {worth[1]:.1f} at the full "
        f"radius; locality {worth[2]:.1f} points with sharing, {worth[3]:.1f} without.",
        f"Best: radius {best[0]}, period {best[1]}, {mean[best]:.1f} %.",
    ]
    tables = [table(settings, results), study.differences(results, pairs)]
    return study.Story(findings, tables, {"bias_map": draw(settings, results)})


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("radius", "period"), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
