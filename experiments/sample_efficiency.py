"""How much data is a bias worth?

    python -m experiments.sample_efficiency

Five rungs of the ladder train on subsets of MNIST-1D, all for the same number of steps, and are
tested on the same 1,000 examples. A seed draws its own subset, the same for all rungs, so error
bars take the choice of examples in, and differences between rungs are paired over it. For a task
made for the purpose, Li, Zhang and Arora (2021, "Why are convolutional nets more sample-efficient
than fully-connected nets?") prove that a fully connected network needs Ω(d²) examples in d
dimensions where a convolutional one needs O(1).

Measured: test accuracy in percent, mean ± standard deviation of 5 seeds and subsets, 1,000 steps
(about 6 minutes on two shared cores, jax 0.10.2):

    examples         125         250         500       1,000       2,000       4,000
    conv      26.1 ± 1.5  30.4 ± 2.3  43.8 ± 3.0  65.0 ± 2.3  84.4 ± 3.0  91.2 ± 3.0
    tiled-2   25.2 ± 1.6  30.3 ± 2.7  41.8 ± 1.1  60.9 ± 2.0  79.6 ± 1.7  89.3 ± 1.2
    local     25.3 ± 1.5  30.0 ± 1.4  40.8 ± 0.9  56.8 ± 1.4  75.4 ± 1.5  86.3 ± 1.7
    dense     23.3 ± 1.9  27.5 ± 2.6  37.1 ± 1.1  49.3 ± 1.9  59.4 ± 1.4  66.7 ± 0.8
    mlp       24.3 ± 2.6  26.5 ± 1.0  34.0 ± 0.9  44.4 ± 1.1  55.1 ± 1.5  66.0 ± 0.8

The hypothesis does not hold in this range: conv − dense grows with the data, from 2.8 points (95 %
interval 0.7 to 4.8) at 125 over 15.7 (13.2 to 18.2) at 1,000 to 25.0 (21.3 to 28.7) at 2,000 and
24.5 (20.4 to 28.6) at 4,000. At 125 all rungs are within 3 points of each other, far above the 10 %
of chance; sharing alone (conv − local) begins to pay between 500 and 1,000. No two curves cross,
and 4,000 examples are too few to see them meet: conv reaches with about 1,060 what dense does with
4,000, and with about 2,440 what local does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, pairwise
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "How much data are locality and weight sharing worth?"
HYPOTHESIS = (
    "the fewer the examples the more a bias is worth, and with enough of them the curves meet."
)
SHOWN = ("conv", "tiled-2", "local", "dense", "mlp")
PAIRS = [("conv", "dense"), ("conv", "local"), ("local", "dense"), ("dense", "mlp")]


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """How many examples, and what is kept."""

    sizes: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000)
    """Numbers of training examples, the classes in equal parts."""
    steps: int = 1000
    """Optimizer steps of every run, whatever its number of examples."""
    seeds: int = 5
    """Seeds per point; each draws a subset of its own."""
    full: bool = False
    """Fashion-MNIST, into the folder full inside of out.

    About 80 minutes of one core, estimated from steps of 0.1 s (dense) and 0.02 s (conv, local).
    """
    out: Path = Path("results/sample_efficiency")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def points(settings: Study) -> dict[Name, Config]:
    """Return every rung on every size and subset, a seed each."""
    from cnn.data import subset
    from cnn.train import Config
    from experiments.ladder import rungs

    whole, recipe = settings.data("mnist1d"), settings.recipe()
    models = rungs(whole)
    seeds = range(settings.seed, settings.seed + settings.seeds)
    drawn = {(n, seed): subset(whole, n, seed) for n in settings.sizes for seed in seeds}
    return {
        (rung, str(n), str(seed)): Config(
            model=models[rung], data=data, **recipe | {"seed": seed, "seeds": 1}
        )
        for rung in SHOWN
        for (n, seed), data in drawn.items()
    }


def pooled(results: Mapping[Name, Outcome]) -> dict[Name, Outcome]:
    """Return the outcomes by rung and size: the subsets are their seeds."""
    import numpy as np

    together: dict[Name, list[Outcome]] = {}
    for (rung, n, _), outcome in results.items():
        together.setdefault((rung, n), []).append(outcome)
    return {
        name: study.Outcome(
            parts[0].parameters,
            {key: np.concatenate([p[key] for p in parts]) for key in parts[0].values},
        )
        for name, parts in together.items()
    }


def roots(sizes: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return the sizes at which `values` change sign, linear in log size between neighbours."""
    import math

    ends = list(zip(map(math.log, sizes), values, strict=True))
    return [math.exp(x + (z - x) * a / (a - b)) for (x, a), (z, b) in pairwise(ends) if a * b < 0]


def crossings(sizes: Sequence[int], results: Mapping[Name, Outcome]) -> list[str]:
    """Return where one rung overtakes another, by the sizes at which they differ beyond error."""
    found = []
    for a, b in combinations(SHOWN, 2):
        gaps = [
            study.paired(results[a, str(n)]["test_accuracy"], results[b, str(n)]["test_accuracy"])
            for n in sizes
        ]
        clear = [(n, mean) for n, (mean, half) in zip(sizes, gaps, strict=True) if abs(mean) > half]
        if clear:
            found += [f"{a} and {b} at {n:,.0f}" for n in roots(*zip(*clear, strict=True))]
    return found


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    by_size = pooled(results)
    sizes = settings.sizes
    most = str(max(sizes))
    curve = [by_size["conv", str(n)]["test_accuracy"].mean() for n in sizes]
    findings = []
    for rung in SHOWN[1:]:
        level = by_size[rung, most]["test_accuracy"].mean()
        reached = roots(sizes, [value - level for value in curve])
        findings += [
            f"What {rung} reaches with {max(sizes):,} examples, {100 * level:.1f} %, conv reaches "
            f"with about {n:,.0f}."
            for n in reached[:1]
        ]
    where = crossings(sizes, by_size)
    findings.append(f"Curves cross (beyond 95 % error): {', '.join(where) or 'none'}.")
    pairs = [((a, str(n)), (b, str(n))) for a, b in PAIRS for n in sizes]
    tables = [table(settings, by_size), study.differences(by_size, pairs)]
    return study.Story(findings, tables, {"sample_efficiency": draw(settings, by_size)})


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return test accuracy in percent, a row per rung, a column per size."""
    from experiments.harness.report import Table, percent

    rows = [
        [rung, *(percent(results[rung, str(n)]["test_accuracy"]) for n in settings.sizes)]
        for rung in SHOWN
    ]
    part = "Validation" if settings.validate else "Test"
    caption = (
        f"{part} accuracy on {settings.title('MNIST-1D')} in percent by training examples, mean ± "
        f"standard deviation over {settings.seeds} seeds and subsets, {settings.steps:,} steps"
    )
    return Table(caption, ["rung", *(f"{n:,}" for n in settings.sizes)], rows)


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw test accuracy against training examples, a curve per rung."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, RUNGS, STYLE, spread

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_WIDTH, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for rung, marker in zip(SHOWN, "ov^sD", strict=False):
            scores = [100 * results[rung, str(n)]["test_accuracy"] for n in settings.sizes]
            axes.errorbar(
                settings.sizes,
                *spread(scores),
                color=RUNGS[rung.partition("-")[0]],
                fmt=f"{marker}-",
                ms=3.5,
                lw=1,
                capsize=2,
                label=rung,
            )
        axes.set_xscale("log")
        axes.set_xticks(settings.sizes, [f"{n:,}" for n in settings.sizes])
        axes.minorticks_off()
        axes.set_xlabel("training examples")
        axes.set_ylabel(f"{'validation' if settings.validate else 'test'} accuracy (%)")
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        axes.legend(frameon=False, title=f"mean ± s.d. of {settings.seeds} seeds")
    return figure


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("rung", "examples", "subset"), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
