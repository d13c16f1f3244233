"""What are locality and sharing worth, each where the other is strong or weak?

    python -m experiments.bias_map                       # MNIST-1D
    python -m experiments.bias_map --tune                # choose the rates again
    python -m experiments.bias_map --data digits         # 8×8 images, whose rates are not tuned
    python -m experiments.bias_map --data fashion_mnist --data-dir DIR

The study varies both biases of the convolution on a grid:

    radius Δ   how far from the centre of its window an output sees, per axis: "full" is the whole
               map
    period P   positions p and p + P share a kernel: at 1 all positions have one kernel, at "all"
               each position has its own

Small Δ with period 1 is the convolution, small Δ with "all" the locally connected layer, and full Δ
with "all" the fully connected layer. Full Δ with period 1 shares a kernel that sees the whole map.
Output sizes, widths and the head are the same at all points. Every point has its own learning rate
and weight decay. What a bias is worth is measured at the radius that is best with and without
sharing, each chosen on the validation part.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, rungs, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, geometry, layers
    from cnn.layers import tree

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset

QUESTION = "What is locality worth with and without sharing, and sharing with and without locality?"
HYPOTHESIS = (
    "locality helps with and without sharing, sharing with and without locality, and each is worth "
    "more where the other is missing."
)
FULL, ALL, BEST = "full", "all", "best"
CONV, LOCAL, GLOBAL, DENSE = (BEST, "1"), (BEST, ALL), (FULL, "1"), (FULL, ALL)
CLAIMS = (
    Claim("with locality, sharing helps", CONV, LOCAL, above=0.01),
    Claim("without locality, sharing helps", GLOBAL, DENSE, above=0.01),
    Claim("with sharing, locality helps", CONV, GLOBAL, above=0.01),
    Claim("without sharing, locality helps", LOCAL, DENSE, above=0.01),
    Claim(
        "each is worth more where the other is missing",
        GLOBAL,
        DENSE,
        minus=(CONV, LOCAL),
        above=0.01,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    data: str = "mnist1d-50k"
    """Data set: mnist1d-50k (one axis), or images: digits, fashion_mnist, ..."""
    radii: tuple[int, ...] = (1, 2, 4)
    """Radii Δ besides the full one. Those that cover the whole input are left out."""
    periods: tuple[int, ...] = (1, 2)
    """Periods of sharing besides "all". Those as long as the smallest map are left out."""
    steps: int = 1500
    seeds: int = 10
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
    model = rungs.base(data)
    convs = geometry.describe(model, data.input_shape).local
    smallest = min(min(layer.shape[:-1]) for layer in convs)
    radii = [str(r) for r in settings.radii if r < min(data.input_shape[:-1]) - 1]
    periods = [str(p) for p in settings.periods if p < smallest]
    return {
        (radius, period): settings.config(ablate(model, data, radius, period), data)
        for radius in (*radii, FULL)
        for period in (*periods, ALL)
    }


def best_of(settings: Settings, names: Sequence[Name]) -> Mapping[Name, Sequence[Name]]:
    """Return the points with a radius that is not full, with one kernel and without sharing."""
    found = {
        (BEST, period): [name for name in names if name[1] == period and name[0] != FULL]
        for period in ("1", ALL)
    }
    return {name: several for name, several in found.items() if several}


def grid_axes(results: Results) -> tuple[list[str], list[str]]:
    """Return the radii and the periods of the grid."""
    names = [name for name in results if name[0] != BEST]
    radii, periods = (list(dict.fromkeys(name[i] for name in names)) for i in (0, 1))
    return radii, periods


def summarize(settings: Settings, results: Results) -> Summary:
    """Return a table and a figure; what the study finds are its verdicts."""
    radii, periods = grid_axes(results)
    rows = [[r, *(results[r, p]["test_accuracy"] for p in periods)] for r in radii]
    heads = ["radius", *(f"period {p}" for p in periods)]
    table = Table(settings.caption(), heads, rows)
    return Summary([], [table], {"bias_map": figure(settings, results)})


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return test accuracy as a heat map, and against the radius with the spread of the seeds."""
    radii, periods = grid_axes(results)
    accuracy = {name: 100 * outcome["test_accuracy"] for name, outcome in results.items()}
    corners = {CONV: "conv", LOCAL: "local", DENSE: "dense"}
    chosen = {
        results[name].chosen or name: rung for name, rung in corners.items() if name in results
    }
    heat_map = plots.HeatMap(
        [[float(accuracy[r, p].mean()) for p in periods] for r in radii],
        radii,
        periods,
        title=f"{settings.part} accuracy (%)",
        x_label="period of sharing (positions)",
        y_label="radius of locality (positions)",
        names=[(radius, period, rung) for (radius, period), rung in chosen.items()],
    )
    rungs = {"1": "conv", ALL: "local"}
    series = [
        plots.Series(f"{rungs.get(p, 'tiled')}, period {p}", [accuracy[r, p] for r in radii])
        for p in periods
    ]
    curves = plots.Curves(
        series,
        ticks=radii,
        x_label="radius of locality (positions)",
        y_label=f"{settings.part} accuracy (%)",
    )
    return plots.Figure([heat_map, curves], height=2.9)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("radius", "period"),
    points,
    summarize,
    claims=CLAIMS,
    best_of=best_of,
    tuning=study.Tuning(__file__, grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
