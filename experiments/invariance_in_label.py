"""How many examples is sharing worth where the label is made for it?

    python -m experiments.invariance_in_label

An input is d positions of two channels, all 2d numbers independent and Gaussian. Its label is
whether the first channel's norm is larger than the second's. No rotation of the whole input changes
the distribution, so a fully connected network, trained from Gaussian weights, has no reason to
prefer one quadratic form of 2d numbers to any other, and needs Ω(d²) examples, where a
convolutional one needs O(1) (Li, Zhang and Arora 2021, arXiv 2010.08515). Here one network of one
hidden layer (window 1, ReLU, mean over positions) has its layer shared, with a kernel for every
position, and dense; nothing else differs. A local layer leaves the 2d coefficients of a diagonal
form open, which counts as Ω(d).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments import cli, study

if TYPE_CHECKING:
    from flax import linen as nn
    from matplotlib.figure import Figure

    from cnn.data import Dataset
    from cnn.train import Config
    from experiments.report import Table
    from experiments.study import Name, Outcome, Story

QUESTION = "How many examples does it take to learn that all positions count alike?"
HYPOTHESIS = (
    "the examples that are needed do not grow with d for conv, as d for local, as d² for dense."
)
SHOWN = ("conv", "local", "dense")


@dataclass(frozen=True, kw_only=True)
class Study(study.Settings):
    """Which inputs, how many of them, and what is kept."""

    positions: tuple[int, ...] = (8, 16, 32)
    """Positions d of an input; it has 2d numbers."""
    sizes: tuple[int, ...] = (64, 256, 1024, 4096, 16384)
    """Numbers of training examples."""
    level: float = 0.25
    """Test error at which the examples that were needed are counted."""
    steps: int = 1000
    """Optimizer steps of every run, whatever its number of examples."""
    batch_size: int = 64
    """Examples per step."""
    lr: float = 1e-2
    """Largest learning rate of Adam."""
    seeds: int = 3
    """Seeds per point; each draws its own examples."""
    out: Path = Path("results/invariance_in_label")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def norms(positions: int, size: int, seed: int, tests: int = 2000) -> Dataset:
    """Return Gaussian inputs `(size, positions, 2)`, class 1 where the first channel is longer.

    Of a seed, the smaller training sets are the beginnings of the larger ones, and the test sets
    are the same.
    """
    import numpy as np

    from cnn.data import Dataset, Split

    def draw(count: int, part: int) -> Split:
        rng = np.random.default_rng((positions, seed, part))
        x = rng.standard_normal((count, positions, 2), np.float32)
        first, second = np.square(x).sum(1).T
        return Split(x, (first > second).astype(np.int32))

    name, classes = f"norms-{positions}", ("second", "first")
    return Dataset(name, draw(size, 0), draw(tests, 1), classes, (0.0, 0.0), (1.0, 1.0))


def networks() -> dict[str, nn.Module]:
    """Return one network by the bias of its layer: 16 channels at every position, then the mean."""
    from cnn.ablations import densify, unshare
    from cnn.layers import Chain, Conv, Dense, GlobalAvgPool, ReLU

    conv = Chain((Conv(16, (1,)), ReLU(), GlobalAvgPool(), Dense(2, gain=1.0)))
    return {"conv": conv, "local": unshare(conv), "dense": densify(conv)}


def points(settings: Study) -> dict[Name, Config]:
    """Return every network at every d and number of examples, a draw of examples each."""
    from cnn.train import Config

    models, recipe = networks(), settings.recipe()
    seeds = range(settings.seed, settings.seed + settings.seeds)
    drawn = {
        (d, n, s): norms(d, n, s) for d in settings.positions for n in settings.sizes for s in seeds
    }
    return {
        (f"{rung} d={d}", str(n), str(s)): Config(
            model=models[rung], data=data, **recipe | {"seed": s, "seeds": 1}
        )
        for rung in SHOWN
        for (d, n, s), data in drawn.items()
    }


def needed(settings: Study, results: Mapping[Name, Outcome]) -> dict[str, dict[int, float]]:
    """Return, by rung and d, the examples at which the mean test error falls to the level.

    Linear in log size between neighbours, and the smallest size where that is enough already; what
    no size reaches is left out.
    """
    from experiments.sample_efficiency import roots

    found: dict[str, dict[int, float]] = {rung: {} for rung in SHOWN}
    for rung in SHOWN:
        for d in settings.positions:
            name = f"{rung} d={d}"
            errors = [1 - results[name, str(n)]["test_accuracy"].mean() for n in settings.sizes]
            above = [error - settings.level for error in errors]
            crossed = [float(settings.sizes[0])] if above[0] <= 0 else roots(settings.sizes, above)
            if crossed:
                found[rung][d] = crossed[0]
    return found


def exponent(by_positions: Mapping[int, float]) -> float:
    """Return the slope of log examples against log d, by least squares."""
    import numpy as np

    return float(np.polyfit(np.log(list(by_positions)), np.log(list(by_positions.values())), 1)[0])


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    from experiments.sample_efficiency import pooled

    by_size = pooled(results)
    counts = needed(settings, by_size)
    findings = []
    for rung, found in counts.items():
        listed = ", ".join(f"{n:,.0f} (d = {d})" for d, n in found.items()) or "more than were run"
        slope = f", as d to the power {exponent(found):.2f}" if len(found) > 1 else ""
        findings.append(f"For {settings.level:.0%} error {rung} needs {listed}{slope}.")
    most, wide = str(max(settings.sizes)), max(settings.positions)
    pairs = [((f"conv d={wide}", most), (f"{rung} d={wide}", most)) for rung in SHOWN[1:]]
    tables = [table(settings, by_size), study.differences(by_size, pairs)]
    return study.Story(
        findings, tables, {"invariance_in_label": draw(settings, by_size, counts)}
    )


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return test error in percent, a row per rung and d, a column per number of examples."""
    from experiments.report import Table, percent

    rows = [
        [name, *(percent(1 - results[name, str(n)]["test_accuracy"]) for n in settings.sizes)]
        for name in dict.fromkeys(name for name, _ in results)
    ]
    part = "Validation" if settings.validate else "Test"
    caption = (
        f"{part} error in percent by number of examples, mean ± standard deviation over "
        f"{settings.seeds} seeds and draws, {settings.steps:,} steps"
    )
    return Table(caption, ["rung", *(f"{n:,}" for n in settings.sizes)], rows)


def draw(
    settings: Study, results: Mapping[Name, Outcome], counts: Mapping[str, Mapping[int, float]]
) -> Figure:
    """Draw error against examples for every d, and the examples needed against d."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.report import COLUMN_WIDTH, GREY, RUNGS, STYLE

    part = "validation" if settings.validate else "test"
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.6), layout="constrained")
        left, right = figure.subplots(1, 2)
        for rung, marker in zip(SHOWN, "o^s", strict=True):
            for d, width in zip(settings.positions, (0.6, 0.9, 1.3, 1.8), strict=False):
                scores = [results[f"{rung} d={d}", str(n)]["test_accuracy"] for n in settings.sizes]
                left.errorbar(
                    settings.sizes,
                    [100 - 100 * values.mean() for values in scores],
                    [100 * values.std(ddof=1) if len(values) > 1 else 0.0 for values in scores],
                    color=RUNGS[rung],
                    fmt=f"{marker}-",
                    ms=2.5,
                    lw=width,
                    capsize=1.5,
                    elinewidth=0.6,
                )
            at, n = list(counts[rung]), list(counts[rung].values())
            slope = f", slope {exponent(counts[rung]):.1f}" if len(at) > 1 else ""
            right.plot(at, n, f"{marker}-", color=RUNGS[rung], ms=4, lw=1, label=rung + slope)
        left.axhline(100 * settings.level, color=GREY, lw=0.7, ls=":")
        left.set_xscale("log")
        left.set_xlabel("training examples; the thicker, the larger d")
        left.set_ylabel(f"{part} error (%), mean ± s.d. of {settings.seeds}")
        left.set_ylim(0, 55)
        right.set_xscale("log", base=2)
        right.set_yscale("log")
        right.set_xticks(settings.positions, map(str, settings.positions))
        right.set_xlabel("positions d of an input")
        right.set_ylabel(f"examples for {settings.level:.0%} error")
        right.legend(frameon=False)
    return figure


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("rung", "examples", "draw"), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
