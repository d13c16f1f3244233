"""What are locality and sharing worth, each where the other is strong or weak?

    python -m experiments.bias_map                       # MNIST-1D
    python -m experiments.bias_map --data digits         # 8×8 images
    python -m experiments.bias_map --data fashion_mnist --data-dir DIR

The study varies both biases of the convolution on a grid:

    radius Δ   how far from the centre of its window an output sees, per axis: 0 is the position
               itself, "full" the whole map
    period P   positions p and p + P share a kernel: at 1 all positions have one kernel, at "all"
               each position has its own

Small Δ with period 1 is the convolution, small Δ with "all" the locally connected layer, and full Δ
with "all" the fully connected layer. Full Δ with period 1 shares a kernel that sees the whole map.
Output sizes, widths, the head and the recipe are the same at all points.
"""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments import ladder
from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, geometry, layers
    from cnn.layers import tree

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset

QUESTION = "What is locality worth with and without sharing, and sharing with and without locality?"
HYPOTHESIS = (
    "test accuracy is highest at a small radius with full sharing, and each bias is worth more "
    "where the other is missing."
)
FULL, ALL = "full", "all"


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    data: str = "mnist1d"
    """Data set: mnist1d (one axis), or images: digits, fashion_mnist, ..."""
    radii: tuple[int, ...] = (0, 1, 2, 4, 8)
    """Radii Δ besides the full one. Those that cover the whole input are left out."""
    periods: tuple[int, ...] = (1, 2, 4)
    """Periods of sharing besides "all". Those as long as the smallest map are left out."""
    seeds: int = 3
    out: Path = Path("results/bias_map")

    large: ClassVar[str] = ""

    @property
    def data_name(self) -> str:
        """The data set `data`."""
        return self.data


def ablate(model: nn.Module, data: Dataset, radius: str, period: str) -> nn.Module:
    """Return the network at one point of the grid."""
    if period == ALL:
        return ablations.localize(model, None if radius == FULL else int(radius))
    traces = geometry.trace(model, data.input_shape)
    for name, layer in tree.leaf_layers(model).items():
        if isinstance(layer, layers.ConvBase):
            size = traces[name].input[:-1]
            window = tuple(2 * (n - 1 if radius == FULL else int(radius)) + 1 for n in size)
            model = ablations.rewindow(model, window, where=name)
    return ablations.share(model) if period == "1" else ablations.tile(model, int(period))


def points(settings: Settings) -> Points:
    """Return the grid, radius by period."""
    data = settings.load()
    model = ladder.base(data)
    convs = geometry.describe(model, data.input_shape).local
    smallest = min(min(layer.shape[:-1]) for layer in convs)
    radii = [str(r) for r in settings.radii if r < min(data.input_shape[:-1]) - 1]
    periods = [str(p) for p in settings.periods if p < smallest]
    return {
        (radius, period): settings.config(ablate(model, data, radius, period), data)
        for radius in (*radii, FULL)
        for period in (*periods, ALL)
    }


def grid_axes(results: Results) -> tuple[list[str], list[str]]:
    """Return the radii and the periods."""
    radii, periods = (list(dict.fromkeys(name[i] for name in results)) for i in (0, 1))
    return radii, periods


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    radii, periods = grid_axes(results)
    mean = {name: 100 * outcome["test_accuracy"].mean() for name, outcome in results.items()}
    best = max(mean, key=lambda name: mean[name])
    shared = periods[0]
    local = max((r for r in radii if r != FULL), key=lambda r: mean[r, shared])
    pairs = [
        ((local, shared), (local, ALL)),
        ((FULL, shared), (FULL, ALL)),
        ((local, shared), (FULL, shared)),
        ((local, ALL), (FULL, ALL)),
    ]
    worth = [
        study.difference(results[a]["test_accuracy"], results[b]["test_accuracy"], brief=True)
        for a, b in pairs
    ]
    findings = [
        f"Sharing is worth, in points with 95 % intervals, {worth[0]} at radius {local} and "
        f"{worth[1]} at the full radius; locality is worth {worth[2]} with sharing and {worth[3]} "
        f"without. (Radius {local} is the best one at period {shared}, on the same accuracies.)",
        f"The best point is radius {best[0]} with period {best[1]}: {mean[best]:.1f} %.",
    ]
    tables = [accuracies(settings, results), study.differences(results, pairs)]
    return Summary(findings, tables, {"bias_map": figure(settings, results)})


def accuracies(settings: Settings, results: Results) -> Table:
    """Return test accuracy in percent, a row per radius, a column per period."""
    radii, periods = grid_axes(results)
    rows = [[r, *(results[r, p]["test_accuracy"] for p in periods)] for r in radii]
    return Table(settings.caption(), ["radius", *(f"period {p}" for p in periods)], rows)


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return heat maps of test accuracy and of its difference to training accuracy."""
    radii, periods = grid_axes(results)
    test, training = (
        100 * np.array([[results[r, p][part].mean() for p in periods] for r in radii])
        for part in ("test_accuracy", "train_accuracy")
    )
    near = next(r for r in ("1", "2", radii[0]) if r in radii)
    corners = [(near, "1", "conv"), (near, ALL, "local"), (FULL, ALL, "dense")]

    panel = functools.partial(
        plots.HeatMap,
        rows=radii,
        columns=periods,
        x_label="period of sharing (positions)",
        y_label="radius of locality (positions)",
        names=corners,
    )
    # The first radius (0) can be so much worse that it would take most of the colours.
    low = float(test[1:].min())
    accuracy = panel(test.tolist(), title=f"{settings.part} accuracy (%)", low=low)
    gap = f"training − {settings.part} accuracy (points)"
    panels = [accuracy, panel((training - test).tolist(), title=gap, colors="cividis")]
    return plots.Figure(panels, height=2.9, share_y=True)


STUDY = study.Study(QUESTION, HYPOTHESIS, ("radius", "period"), points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
