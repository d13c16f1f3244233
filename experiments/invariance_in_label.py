"""How many more examples does it take to learn a sum that convolutions have built in?

    python -m experiments.invariance_in_label

Inputs are noise from N(0, 1), two channels of length d / 2, and the label says which channel has
the larger norm:

    y = [Σ_p x[p, 1]² > Σ_p x[p, 2]²]

It treats all positions alike, as a convolution with global pooling does. Li, Zhang and Arora (2021,
"Why are convolutional nets more sample-efficient than fully-connected nets?", theorem 1) prove
for this label that whatever learns in the same way in all rotated coordinates, as a fully connected
network does under gradient descent, needs Ω(d²) examples where a convolutional one needs O(1).

Three rungs: convolution, window 3, 16 channels; ReLU; global mean; two logits. The locally
connected one and the dense one have the same head, so sharing and locality go one by one. All train
by gradient descent (SGD with momentum), for which the theorem speaks; Adam is not rotation
invariant. Needed are as many examples as the curve of test errors, linear in log examples between
those measured, takes to stay at or below 25 %.

Measured: test error in percent, mean ± standard deviation of 3 seeds and draws, 1,500 steps
(7 minutes on two cores beside other work, jax 0.10.2), at d = 64, and examples needed by d
(geometric mean):

    examples          32         128         512       2,048       8,192    d = 8   16   32     64
    conv      25.2 ± 7.5  11.6 ± 1.8   7.8 ± 0.4   7.0 ± 0.7   6.9 ± 0.6       32   32   32     39
    local     48.2 ± 1.5  42.6 ± 1.3  30.0 ± 1.8  19.5 ± 0.6  17.0 ± 0.2       60  128  334    974
    dense     49.8 ± 0.5  49.4 ± 0.3  43.5 ± 1.4  32.0 ± 1.4  22.2 ± 0.6       73  250  962  5,502

The hypothesis holds: dense needs examples like d to the 2.07 ± 0.03 (95 % interval), local like d
to the 1.35 ± 0.16, conv like d to the 0.09 ± 0.31, and 32, the fewest that were measured, are
enough for it but at d = 64. Where examples are plenty the order turns round at d = 8: with 8,192
of them dense ends at 2.7 % error, local at 3.5, conv at 4.3. At d = 64 local hardly gains from
2,048 to 8,192, so there 1,500 steps may be what limits it, and dense with it, whose exponent from
one d to the next is 1.8, 1.9 and 2.5.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

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

QUESTION = "What does a label that treats all positions alike cost without weight sharing?"
HYPOTHESIS = (
    "the examples that the dense network needs grow like d², those of the convolution not at all; "
    "locality without sharing is in between."
)
SHOWN = ("conv", "local", "dense")
MARKERS = "o^s"
ERROR = 0.25
"""The test error at which examples are counted."""
TESTED = 2000
"""Test examples: the standard error of an error of 25 % is 1 point."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Settings):
    """How large the inputs are, how many there are, and what is kept."""

    lengths: tuple[int, ...] = (4, 8, 16, 32)
    """Positions of the inputs; d, the number of values, is twice that."""
    sizes: tuple[int, ...] = (32, 128, 512, 2048, 8192)
    """Numbers of training examples."""
    steps: int = 1500
    """Optimizer steps of every run."""
    batch_size: int = 32
    """Examples per step."""
    optimizer: Literal["adamw", "sgd"] = "sgd"
    """SGD has momentum 0.9."""
    lr: float = 0.1
    """Largest learning rate."""
    seeds: int = 3
    """Seeds per point; each draws data of its own."""
    out: Path = Path("results/invariance_in_label")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def norms(length: int, size: int, seed: int) -> Dataset:
    """Return `size` training examples, `(length, 2)`; of one seed, fewer are the first of more."""
    import numpy as np

    from cnn.data import Dataset, Split

    def split(count: int, part: int) -> Split:
        x = np.random.default_rng((seed, length, part)).standard_normal((count, length, 2))
        first, second = np.square(x).sum(1).T
        return Split(x.astype(np.float32), (first > second).astype(np.int32))

    classes = ("second", "first")
    return Dataset("norms", split(size, 0), split(TESTED, 1), classes, (0.0, 0.0), (1.0, 1.0))


def rungs() -> dict[str, nn.Module]:
    """Return the networks by name, from the strongest bias to none."""
    from cnn.ablations import densify, unshare
    from cnn.layers import Chain, Conv, Dense, GlobalAvgPool, ReLU

    conv = Chain((Conv(16, (3,), padding=1), ReLU(), GlobalAvgPool(), Dense(2, scale=1.0)))
    return {"conv": conv, "local": unshare(conv), "dense": densify(conv)}


def points(settings: Study) -> dict[Name, Config]:
    """Return every rung on every length, number of examples and draw of them, a seed each."""
    from cnn.train import Config

    seeds = range(settings.seed, settings.seed + settings.seeds)
    recipe = settings.recipe() | {"optimizer": settings.optimizer}
    data = {
        (n, size, seed): norms(n, size, seed)
        for n in settings.lengths
        for size in settings.sizes
        for seed in seeds
    }
    return {
        (rung, str(2 * n), str(size), str(seed)): Config(
            model=model, data=drawn, **recipe | {"seed": seed, "seeds": 1}
        )
        for rung, model in rungs().items()
        for (n, size, seed), drawn in data.items()
    }


def errors(settings: Study, results: Mapping[Name, Outcome]) -> dict[tuple[str, int], np.ndarray]:
    """Return test errors as `(seeds, sizes)` by rung and d."""
    import numpy as np

    seeds = range(settings.seed, settings.seed + settings.seeds)
    return {
        (rung, 2 * n): np.array(
            [
                [
                    1 - results[rung, str(2 * n), str(k), str(s)]["test_accuracy"][0]
                    for k in settings.sizes
                ]
                for s in seeds
            ]
        )
        for rung in SHOWN
        for n in settings.lengths
    }


def needed(sizes: Sequence[int], curve: np.ndarray) -> float:
    """Return the number of examples from which on the error is at most `ERROR`.

    Between two sizes the error is linear in the logarithm of their number. The smallest size if the
    error is never above, infinite if it is above at the largest.
    """
    import numpy as np

    above = np.flatnonzero(curve > ERROR)
    if len(above) == 0:
        return float(sizes[0])
    i = int(above[-1])
    if i + 1 == len(sizes):
        return float("inf")
    share = (curve[i] - ERROR) / (curve[i] - curve[i + 1])
    return float(sizes[i] * (sizes[i + 1] / sizes[i]) ** share)


def exponent(sides: Sequence[int], counts: np.ndarray) -> tuple[float, float]:
    """Return the slope of log examples, `(seeds, d)`, against log d, and half its 95 % interval.

    A least-squares line per seed; Student's t over the seeds.
    """
    import numpy as np

    slopes = np.polyfit(np.log(sides), np.log(counts).T, 1)[0]
    return study.paired(slopes, np.zeros_like(slopes))


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    import numpy as np

    curves = errors(settings, results)
    sides = [2 * n for n in settings.lengths]
    counts = {
        rung: np.array([[needed(settings.sizes, c) for c in curves[rung, d]] for d in sides]).T
        for rung in SHOWN
    }
    findings = []
    for rung, found in counts.items():
        means = ", ".join(f"{np.exp(np.log(column).mean()):,.0f}" for column in found.T)
        text = f"{rung} needs {means} examples at d = {', '.join(map(str, sides))}"
        if np.isfinite(found).all() and len(sides) > 1:
            slope, half = exponent(sides, found)
            text += f": like d to the {slope:.2f} (95 % interval ± {half:.2f})"
        findings.append(f"{text}.")
    figure = draw(settings, curves, counts)
    return study.Story(findings, table(settings, curves), {"invariance_in_label": figure})


def table(settings: Study, curves: Mapping[tuple[str, int], np.ndarray]) -> list[Table]:
    """Return test errors in percent: a table per d, a row per rung, a column per number."""
    from experiments.harness.report import Table, percent

    return [
        Table(
            f"Test error in percent at d = {2 * n} by training examples, mean ± standard deviation "
            f"over {settings.seeds} seeds and draws, {settings.steps:,} steps",
            ["rung", *(f"{size:,}" for size in settings.sizes)],
            [[rung, *(percent(column) for column in curves[rung, 2 * n].T)] for rung in SHOWN],
        )
        for n in settings.lengths
    ]


def draw(
    settings: Study,
    curves: Mapping[tuple[str, int], np.ndarray],
    counts: Mapping[str, np.ndarray],
) -> Figure:
    """Draw error against examples, lighter for smaller d, and examples needed against d."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, RUNGS, STYLE

    sides = [2 * n for n in settings.lengths]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.7), layout="constrained")
        left, right = figure.subplots(1, 2)
        for (rung, d), found in curves.items():
            left.plot(
                settings.sizes,
                100 * found.mean(0),
                MARKERS[SHOWN.index(rung)] + "-",
                color=RUNGS[rung],
                alpha=(1 + sides.index(d)) / len(sides),
                ms=3.5,
                lw=1,
                label=f"{rung}, d = {d}",
            )
        left.axhline(100 * ERROR, color="black", lw=0.6, ls=":")
        left.set_xscale("log")
        left.set_xticks(settings.sizes, [f"{n:,}" for n in settings.sizes])
        left.minorticks_off()
        left.set_xlabel("training examples")
        left.set_ylabel("test error (%)")
        left.set_title(f"mean of {settings.seeds} seeds; the paler, the smaller d")
        needs(right, settings, sides, counts)
    return figure


def needs(
    axes: Axes, settings: Study, sides: Sequence[int], counts: Mapping[str, np.ndarray]
) -> None:
    """Draw the examples needed against d, every seed's range a bar, and d² beside."""
    import numpy as np

    from experiments.harness.report import GREY, RUNGS

    for rung, found in counts.items():
        kept = np.isfinite(found).all(0)
        if not kept.any():
            continue
        reached = found[:, kept]
        middle = np.exp(np.log(reached).mean(0))
        bars = np.array([middle - reached.min(0), reached.max(0) - middle])
        axes.errorbar(
            np.array(sides)[kept],
            middle,
            bars.clip(0),
            color=RUNGS[rung],
            fmt=MARKERS[SHOWN.index(rung)] + "-",
            ms=3.5,
            lw=1,
            capsize=2,
            label=rung,
        )
    guide = np.array(sides) ** 2.0
    top = max(found[np.isfinite(found)].max(initial=1) for found in counts.values())
    axes.plot(sides, 1.6 * top * guide / guide[-1], "--", color=GREY, lw=0.8, label="d²")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sides, map(str, sides))
    axes.minorticks_off()
    axes.set_xlabel("d (values in an input)")
    axes.set_ylabel(f"examples for {100 * ERROR:.0f} % error")
    axes.set_title(f"geometric mean and range of {settings.seeds} seeds")
    axes.grid(axis="y", lw=0.4, alpha=0.5)
    axes.legend(frameon=False)


def main(settings: Study) -> None:
    """Run the study."""
    labels = ("rung", "d", "examples", "seed drawn")
    study.main(settings, QUESTION, HYPOTHESIS, labels, points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
