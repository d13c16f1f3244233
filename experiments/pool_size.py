"""How large should a pooling region be?

    python -m experiments.pool_size
    python -m experiments.pool_size --tune   # choose the rates again

A signal of 32 samples has noise from N(0, 1/4) and two equal parts. They are one of four patterns
of 4 samples, the rows of a Hadamard matrix. The first part starts at one of the first 16 samples,
the second one 7, 9, 11 or 13 samples after it. The same signals have two labels: the pattern,
wherever it is, and the displacement of the second part from the first. The pattern needs
invariance to position, the displacement needs positions.

The network is a convolution of window 5 with 16 channels, a ReLU, the maximum over regions that do
not overlap, and two dense layers with a ReLU between. A region has 1 sample, which is no pooling,
up to 32, which is the whole signal. A dense layer treats positions apart, so the network ignores of
position what the pooling ignores, and what it learns to ignore. Its weights become fewer as the map
shrinks. Two more networks keep every second position, as regions of 2 do:

    overlapping   the maximum over regions of 3 samples
    strided       the stride is that of the convolution, and nothing is pooled; it has so many more
                  channels and units that it costs the multiply-accumulates of regions of 2

Learning rate and weight decay of every network are tuned for both labels, on other signals than
those of the study.

Reference:
    Goodfellow, Bengio and Courville 2016, sections 9.3 and 9.4 (from memory, not checked): pooling
    is a prior that what is learned must be invariant to small translations, and underfits where
    positions matter.
    Springenberg et al. 2015, "Striving for simplicity: the all convolutional net": max-pooling can
    be replaced by a convolution with a stride without loss in accuracy (from the abstract).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, study
from experiments.harness.counting import check_counts
from experiments.harness.study import Claim, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np
    from scipy import linalg

    from cnn import ablations, layers
    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split

QUESTION = "How large should a pooling region be?"
HYPOTHESIS = (
    "the larger, the better for a label that needs invariance to position, and the worse for one "
    "that needs positions; regions that overlap are like larger ones, and a stride without "
    "pooling keeps positions, but gives no invariance."
)
LENGTH, PART, STARTS = 32, 4, 16
"""Samples of a signal and of a part, and where the first part may start."""
DISPLACEMENTS = (7, 9, 11, 13)
NOISE = 0.5
"""Standard deviation; the samples of a part are -1 and 1."""
TRAINED, TESTED = 2000, 4000
"""Signals."""
PATTERN, DISPLACEMENT = "pattern", "displacement"
OVERLAPPING, STRIDED = "overlapping", "strided"
CLAIMS = tuple(
    Claim(f"{label}: {text}", (label, a), (label, b), above=above)
    for label, text, a, b, above in (
        (PATTERN, "regions of 4 are better than none", "4", "1", 0.01),
        (PATTERN, "regions of 16 are better than of 4", "16", "4", 0.0),
        (PATTERN, "overlapping regions are better than of 2", OVERLAPPING, "2", 0.0),
        (PATTERN, "a stride is worse than regions of 2", "2", STRIDED, 0.0),
        (DISPLACEMENT, "regions of 4 cost more than a point", "1", "4", 0.01),
        (DISPLACEMENT, "those of 16 cost more than 10 points more", "4", "16", 0.1),
        (DISPLACEMENT, "overlap costs more than a point", "2", OVERLAPPING, 0.01),
        (
            DISPLACEMENT,
            "a stride costs at most a point",
            STRIDED,
            "2",
            -0.01,
        ),
    )
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    sizes: tuple[int, ...] = (1, 2, 4, 8, 16, 32)
    """Samples of a pooling region; they divide 32."""
    steps: int = 400
    seeds: int = 10
    """Seeds per point, all on the same signals."""
    out: Path = Path("results/pool_size")

    large: ClassVar[str] = ""


def signals(count: int, seed: int) -> tuple[np.ndarray, dict[str, np.ndarray]]:
    """Return signals, `(count, 32, 1)`, and both labels, each `(count,)` from 0 to 3."""
    rng = np.random.default_rng(seed)
    pattern, apart = rng.integers(PART, size=(2, count))
    starts = rng.integers(STARTS, size=(count, 1))
    x = (NOISE * rng.standard_normal((count, LENGTH))).astype(np.float32)
    rows, samples = np.arange(count)[:, None], np.arange(PART)
    for each in (starts, starts + np.array(DISPLACEMENTS)[apart, None]):
        x[rows, each + samples] += linalg.hadamard(PART)[pattern]
    return x[..., None], {PATTERN: pattern, DISPLACEMENT: apart}


def parts(label: str, draw: int = 0) -> Dataset:
    """Return the signals of a draw with one of their labels."""

    def split(count: int, part: int) -> Split:
        x, labels = signals(count, 2 * draw + part)
        return datasets.Split(x, labels[label].astype(np.int32))

    names = {
        PATTERN: ("++++", "+-+-", "++--", "+--+"),
        DISPLACEMENT: tuple(map(str, DISPLACEMENTS)),
    }
    train, test = split(TRAINED, 0), split(TESTED, 1)
    return datasets.Dataset(f"parts, {label}", train, test, names[label], (0.0,), (1.0,))


def network(size: int) -> nn.Module:
    """Return the network with pooling regions of this size."""
    below = (layers.Conv(16, (5,), padding=2), layers.ReLU(), layers.MaxPool((size,)))
    above = (layers.Dense(64), layers.ReLU(), layers.Dense(4, scale=1.0))
    return layers.Chain((*below, layers.Flatten(), *above))


def networks(settings: Settings) -> dict[str, nn.Module]:
    """Return the networks by pooling. Raise `InputError`."""
    check_counts(sizes=settings.sizes)
    if rest := [size for size in settings.sizes if LENGTH % size]:
        raise InputError(f"sizes must divide the {LENGTH} samples of a signal, got {rest[0]}")
    pooled = network(2)
    conv, relu, _, *above = pooled.layers
    strided = layers.Chain((conv.clone(strides=2), relu, *above))
    return {
        **{str(size): network(size) for size in settings.sizes},
        OVERLAPPING: ablations.pool_window(pooled, 3),
        STRIDED: ablations.match(strided, pooled, (LENGTH, 1), "macs").model,
    }


def points(settings: Settings, draw: int = 0) -> Points:
    """Return every network with both labels. Raise `InputError`."""
    data = {label: parts(label, draw) for label in (PATTERN, DISPLACEMENT)}
    return {
        (label, pooling): settings.config(model, data[label])
        for label, (pooling, model) in product(data, networks(settings).items())
    }


def points_to_tune(settings: Settings) -> Points:
    """Return the same on other signals, of which all those for testing validate."""
    return points(replace(settings, validate=False), draw=1)


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    models = networks(settings)
    costs = study.costs(models, (LENGTH, 1))
    rows = [
        [
            f"regions of {pooling}" if pooling.isdigit() else pooling,
            *costs[pooling],
            *(results[label, pooling]["test_accuracy"] for label in (PATTERN, DISPLACEMENT)),
        ]
        for pooling in models
    ]
    heads = ["pooling", "parameters", "multiply-accumulates", f"{PATTERN}, %", f"{DISPLACEMENT}, %"]
    table = Table(f"{settings.part.capitalize()} accuracy, {settings.protocol}", heads, rows)
    found = [finding(settings, results, label) for label in (PATTERN, DISPLACEMENT)]
    return Summary(found, [table], {"pool_size": figure(settings, results)})


def finding(settings: Settings, results: Results, label: str) -> str:
    """Return which region is best for a label, and what its size changes."""
    means = {
        size: 100 * results[label, str(size)]["test_accuracy"].mean() for size in settings.sizes
    }
    best = max(means, key=lambda size: means[size])
    listed = ", ".join(f"{size}: {mean:.1f}" for size, mean in means.items())
    return f"Accuracy on the {label} by samples of a region: {listed}. The best has {best}."


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy against the size of a region, beside three ways to halve the map."""

    def accuracy(label: str, poolings: list[str]) -> list[np.ndarray]:
        return [100 * results[label, each]["test_accuracy"] for each in poolings]

    colors = {PATTERN: plots.BLACK, DISPLACEMENT: plots.ORANGE}
    sizes = [str(size) for size in settings.sizes]
    curves = [
        plots.Series(label, accuracy(label, sizes), settings.sizes, color=color)
        for label, color in colors.items()
    ]
    chance = [plots.Reference(y=100 / PART, label="chance")]
    left = plots.Curves(
        curves,
        ticks=sizes,
        log="x",
        x_label="samples of a pooling region",
        y_label=f"{settings.part} accuracy (%)",
        references=chance,
    )
    halving = ["2"] * (2 in settings.sizes) + [OVERLAPPING, STRIDED]
    dots = [plots.Series(label, accuracy(label, halving), color=c) for label, c in colors.items()]
    names = ["regions of 2" if each == "2" else each for each in halving]
    right = plots.Dots(dots, names, x_label="every second position", references=chance, legend="")
    return plots.Figure([left, right], share_y=True)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("label", "pooling"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__,
        grid={"lr": (0.005, 0.01), "weight_decay": (0.01, 0.1)},
        points=points_to_tune,
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
