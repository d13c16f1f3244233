"""How many more examples does it take to learn a sum that convolutions have built in?

    python -m experiments.invariance_in_label

Inputs are noise from N(0, 1), two channels of length d / 2. The label says which channel has the
larger norm:

    y = [Σ_p x[p, 1]² > Σ_p x[p, 2]²]

It treats all positions alike, as a convolution with global pooling does. Three rungs are compared:
a convolution with window 3 and 16 channels, ReLU, global mean and two logits; the locally connected
network, without sharing; and the dense one, also without locality. All have the same head and train
by gradient descent (SGD with momentum), because the theorem below is about gradient descent: Adam
is not invariant under rotation. The number of examples needed is where the curve of test errors,
linear in the logarithm of the number of examples, stays at or below 25 % from then on.

Reference:
    Li, Zhang and Arora 2021, "Why are convolutional nets more sample-efficient than fully-connected
    nets?", theorem 1: for this label, whatever learns in the same way in all rotated coordinates,
    as a fully connected network does under gradient descent, needs Ω(d²) examples where a
    convolutional network needs O(1).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers
    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split

QUESTION = "What does a label that treats all positions alike cost without weight sharing?"
HYPOTHESIS = (
    "the number of examples that the dense network needs grows like d², that of the convolution "
    "not at all; locality without sharing is in between."
)
RUNGS = ("conv", "local", "dense")
ERROR = 0.25
"""The test error at which examples are counted."""
TESTED = 2000
"""Test examples; the standard error of an error of 25 % is then 1 point."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    lengths: tuple[int, ...] = (4, 8, 16, 32)
    """Positions of the inputs; d, the number of values, is twice that."""
    sizes: tuple[int, ...] = (32, 128, 512, 2048, 8192)
    """Numbers of training examples."""
    steps: int = 1500
    batch_size: int = 32
    optimizer: Literal["adamw", "sgd"] = "sgd"
    """SGD has Nesterov momentum 0.9."""
    lr: float = 0.1
    seeds: int = 3
    """Seeds per point; each generates its own data."""
    out: Path = Path("results/invariance_in_label")

    large: ClassVar[str] = ""


def norms(length: int, size: int, seed: int) -> Dataset:
    """Return `size` training examples `(length, 2)`.

    With the same seed, a smaller set is the beginning of a larger one.
    """

    def split(count: int, part: int) -> Split:
        x = np.random.default_rng((seed, length, part)).standard_normal((count, length, 2))
        first, second = np.square(x).sum(1).T
        return datasets.Split(x.astype(np.float32), (first > second).astype(np.int32))

    classes = ("second", "first")
    train, test = split(size, 0), split(TESTED, 1)
    return datasets.Dataset("norms", train, test, classes, (0.0, 0.0), (1.0, 1.0))


def rungs() -> dict[str, nn.Module]:
    """Return the networks by name, from the strongest bias to none."""
    head = (layers.GlobalAvgPool(), layers.Dense(2, scale=1.0))
    conv = layers.Chain((layers.Conv(16, (3,), padding=1), layers.ReLU(), *head))
    return {"conv": conv, "local": ablations.unshare(conv), "dense": ablations.densify(conv)}


def optimizer(settings: Settings) -> dict[str, Any]:
    """Return the fields of the recipe that say the optimizer."""
    momentum = ("momentum=0.9", "nesterov=true") if settings.optimizer == "sgd" else ()
    return {"optimizer": settings.optimizer, "optimizer_args": momentum}


def points(settings: Settings) -> Points:
    """Return every rung on every length, number of examples and seed."""
    data = {
        key: norms(*key) for key in product(settings.lengths, settings.sizes, settings.seed_range)
    }
    return {
        (rung, str(2 * length), str(size), str(seed)): settings.config(
            model, examples, **optimizer(settings), seed=seed, seeds=1
        )
        for rung, model in rungs().items()
        for (length, size, seed), examples in data.items()
    }


def needed(sizes: Sequence[int], curve: np.ndarray) -> float:
    """Return the number of examples from which on the error is at most `ERROR`.

    Between two sizes the error is linear in the logarithm of their number. Return the smallest size
    if the error is never above `ERROR`, and infinity if it is at the largest size.
    """
    above = np.flatnonzero(curve > ERROR)
    if len(above) == 0:
        return float(sizes[0])
    i = int(above[-1])
    if i + 1 == len(sizes):
        return float("inf")
    share = (curve[i] - ERROR) / (curve[i] - curve[i + 1])
    return float(sizes[i] * (sizes[i + 1] / sizes[i]) ** share)


def exponent(d: Sequence[int], counts: np.ndarray) -> tuple[float, float]:
    """Return the slope of log examples, `(seeds, d)`, against log d, and half its 95 % interval.

    A least-squares line per seed; Student's t over the seeds.
    """
    slopes = np.polyfit(np.log(d), np.log(counts).T, 1)[0]
    return study.paired(slopes, np.zeros_like(slopes))


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    pooled = study.pool_seeds(results)
    all_d = [2 * length for length in settings.lengths]
    errors = {
        (rung, d): np.stack(
            [1 - pooled[rung, str(d), str(size)]["test_accuracy"] for size in settings.sizes], 1
        )
        for rung, d in product(RUNGS, all_d)
    }  # (seeds, sizes)
    counts = {
        rung: np.array([[needed(settings.sizes, c) for c in errors[rung, d]] for d in all_d]).T
        for rung in RUNGS
    }
    means = {rung: np.exp(np.log(found).mean(0)) for rung, found in counts.items()}
    conv, local, dense = (means[rung][-1] for rung in RUNGS)
    findings = []
    if np.isfinite([conv, local, dense]).all():
        findings.append(
            f"Without sharing, the label takes {local / conv:.1f} times as many examples (local), "
            f"also without locality {dense / conv:.1f} times (dense), at d = {all_d[-1]}."
        )
    for rung, found in counts.items():
        most = f"more than {settings.sizes[-1]:,}"
        shown = ", ".join(f"{n:,.0f}" if np.isfinite(n) else most for n in means[rung])
        text = f"{rung} needs {shown} examples at d = {', '.join(map(str, all_d))}"
        if np.isfinite(found).all() and len(all_d) > 1:
            slope, half = exponent(all_d, found)
            text += f", which grows like d to the power {slope:.2f} (95 % interval ± {half:.2f})"
        findings.append(f"{text}.")
    tables = [
        Table(
            f"Test error in percent at d = {d} by number of training examples, {settings.protocol}",
            ["rung", *(f"{size:,}" for size in settings.sizes)],
            [[rung, *errors[rung, d].T] for rung in RUNGS],
        )
        for d in all_d
    ]
    figures = {"invariance_in_label": figure(settings, all_d, errors, counts)}
    return Summary(findings, tables, figures)


def figure(
    settings: Settings,
    all_d: Sequence[int],
    errors: Mapping[tuple[str, int], np.ndarray],
    counts: Mapping[str, np.ndarray],
) -> plots.Figure:
    """Return error against examples, lighter for smaller d, and examples needed against d."""
    shades = {d: (1 + i) / len(all_d) for i, d in enumerate(all_d)}
    curves = [
        plots.Series(f"{rung}, d = {d}", 100 * found.mean(0), settings.sizes, alpha=shades[d])
        for (rung, d), found in errors.items()
    ]
    left = plots.Curves(
        curves,
        title=f"mean of {settings.seeds} seeds; lighter: smaller d",
        ticks=[f"{size:,}" for size in settings.sizes],
        log="x",
        x_label="training examples",
        y_label="test error (%)",
        legend="",
        references=[plots.Reference(y=100 * ERROR)],
    )
    reached = {rung: np.isfinite(found).all(0) for rung, found in counts.items()}
    top = max(counts[rung][:, kept].max(initial=1) for rung, kept in reached.items())
    guide = 1.6 * top * (np.array(all_d) / all_d[-1]) ** 2
    needs = [
        plots.Series(rung, list(counts[rung][:, kept].T), np.array(all_d)[kept].tolist())
        for rung, kept in reached.items()
        if kept.any()
    ]
    right = plots.Curves(
        [plots.Series("d²", guide, all_d, line="--", marker="", color=plots.GREY), *needs],
        ticks=[str(d) for d in all_d],
        log="xy",
        x_label="d (values in an input)",
        y_label=f"examples for {100 * ERROR:.0f} % error",
        legend="upper left",
    )
    return plots.Figure([left, right], height=2.7)


LABELS = ("rung", "d", "examples", "seed drawn")
STUDY = study.Study(QUESTION, HYPOTHESIS, LABELS, points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
