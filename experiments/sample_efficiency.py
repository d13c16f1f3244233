"""How much data is a bias worth?

    python -m experiments.sample_efficiency

Five rungs of the ladder train on subsets of MNIST-1D, all for the same number of steps, and are
tested on the same 1,000 examples. Each seed draws its own subset, the same for all rungs. So error
bars include the choice of examples, and differences between rungs are paired over it.

Reference:
    Li, Zhang and Arora (2021), "Why are convolutional nets more sample-efficient than
    fully-connected nets?", prove for a constructed task that a fully connected network needs Ω(d²)
    examples in d dimensions, and a convolutional one O(1).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments import ladder
from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import data as datasets

if TYPE_CHECKING:
    import numpy as np

QUESTION = "How much data are locality and weight sharing worth?"
HYPOTHESIS = (
    "the fewer the examples the more a bias is worth, and with enough of them the curves meet."
)
SHOWN = ("conv", "tiled-2", "local", "dense", "mlp")
PAIRS = [("conv", "dense"), ("conv", "local"), ("local", "dense"), ("dense", "mlp")]


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    sizes: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000)
    """Numbers of training examples, the classes in equal parts."""
    steps: int = 1000
    """Optimizer steps of every run, whatever its number of examples."""
    seeds: int = 5
    """Seeds per point. Each draws a subset of its own."""
    full: bool = False
    """Use Fashion-MNIST: about 80 minutes of one core (estimated)."""
    out: Path = Path("results/sample_efficiency")


def points(settings: Settings) -> Points:
    """Return every rung on every size and subset, each with one seed."""
    data = settings.load()
    models = ladder.rungs(data)
    draws = itertools.product(settings.sizes, settings.seed_range)
    subsets = {(n, seed): datasets.subset(data, n, seed) for n, seed in draws}
    return {
        (rung, str(n), str(seed)): settings.config(models[rung], subset, seed=seed, seeds=1)
        for rung in SHOWN
        for (n, seed), subset in subsets.items()
    }


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    by_size = study.pool_seeds(results)
    sizes = sorted(settings.sizes)
    accuracy = {rung: [by_size[rung, str(n)]["test_accuracy"] for n in sizes] for rung in SHOWN}
    where = crossings(sizes, accuracy)
    findings = [
        " ".join(needed_by_conv(sizes, accuracy, rung) for rung in SHOWN[1:]),
        f"Curves cross, counting only differences whose 95 % interval excludes zero: "
        f"{', '.join(where) or 'none'}.",
    ]
    pairs = [((a, str(n)), (b, str(n))) for a, b in PAIRS for n in sizes]
    caption = settings.caption("training examples, a subset for each seed")
    rows = [[rung, *values] for rung, values in accuracy.items()]
    table = Table(caption, ["rung", *(f"{n:,}" for n in sizes)], rows)
    panel = plots.Curves(
        [plots.Series(rung, [100 * v for v in values], sizes) for rung, values in accuracy.items()],
        ticks=[f"{n:,}" for n in sizes],
        log="x" if len(sizes) > 1 else "",  # one size has no range
        x_label="training examples",
        y_label=f"{settings.part} accuracy (%)",
    )
    tables = [table, study.differences(by_size, pairs)]
    return Summary(findings, tables, {"sample_efficiency": plots.Figure([panel], height=2.7)})


def needed_by_conv(
    sizes: Sequence[int], accuracy: Mapping[str, Sequence[np.ndarray]], rung: str
) -> str:
    """Return how many examples conv needs for the accuracy of `rung` with the most examples."""
    level = accuracy[rung][-1].mean()
    above = [values.mean() - level for values in accuracy["conv"]]
    if above[0] >= 0:
        needed = f"at most {sizes[0]:,}"
    elif reached := sign_changes(sizes, above):
        needed = f"about {reached[0]:,.0f}"
    else:
        needed = f"more than {sizes[-1]:,}"
    goal = f"the accuracy of {rung} with {sizes[-1]:,} examples ({100 * level:.1f} %)"
    return f"For {goal}, conv needs {needed}."


def sign_changes(sizes: Sequence[float], values: Sequence[float]) -> list[float]:
    """Return the sizes at which `values` change sign, linear in log size between neighbours."""
    ends = list(zip(map(math.log, sizes), values, strict=True))
    return [
        math.exp(x + (z - x) * a / (a - b))
        for (x, a), (z, b) in itertools.pairwise(ends)
        if (a < 0) != (b < 0)
    ]


def crossings(sizes: Sequence[int], accuracy: Mapping[str, Sequence[np.ndarray]]) -> list[str]:
    """Return where one rung overtakes another, from the sizes at which they clearly differ."""
    found = []
    for a, b in itertools.combinations(SHOWN, 2):
        gaps = [study.paired(*pair) for pair in zip(accuracy[a], accuracy[b], strict=True)]
        clear = [(n, mean) for n, (mean, half) in zip(sizes, gaps, strict=True) if abs(mean) > half]
        if clear:
            found += [f"{a} and {b} at {n:,.0f}" for n in sign_changes(*zip(*clear, strict=True))]
    return found


STUDY = study.Study(QUESTION, HYPOTHESIS, ("rung", "examples", "subset"), points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
