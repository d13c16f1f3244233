"""How many more examples does it take to learn a sum that convolutions have built in?

    python -m experiments.invariance_in_label

Inputs are noise from N(0, 1), two channels of length d / 2. The label says which channel has the
larger norm:

    y = [Σ_p x[p, 1]² > Σ_p x[p, 2]²]

It treats all positions alike, as a convolution with global pooling does. Three rungs are compared:
a convolution with window 3 and 16 channels, ReLU, global mean and two logits; the locally connected
network, without sharing; and the dense one, also without locality. All have the same head and train
by gradient descent (SGD with momentum), because the theorem below is about gradient descent: Adam
is not invariant under rotation. Every seed draws its own data. The number of examples needed is
where the curve of test errors, linear in the logarithm of the number of examples, stays at or below
25 % from then on. Where the smallest number is enough, or the largest is not, it is a bound.

Reference:
    Li, Zhang and Arora 2021, "Why are convolutional nets more sample-efficient than fully-connected
    nets?": for this label, whatever learns in the same way in all rotated coordinates, as a fully
    connected network does under gradient descent, needs Ω(d²) examples where a convolutional
    network needs O(1).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.counting import ERROR, check_counts, finding, is_known, needed, number
from experiments.harness.study import Claim, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers
    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset, Split

QUESTION = "What does a label that treats all positions alike cost without weight sharing?"
HYPOTHESIS = (
    "sharing and locality are both worth more than a point for long inputs; from d = 16 to 64 the "
    "dense network loses accuracy, the local one loses less, the convolution next to nothing; the "
    "number of examples that dense needs grows like d²."
)
RUNGS = ("conv", "local", "dense")
TESTED = 2000
"""Test examples of each seed."""
LR = 0.1
"""Learning rate where none was tuned."""


def at(rung: str, d: int) -> tuple[str, str, str]:
    """Return the name of the point with 512 training examples."""
    return rung, str(d), "512"


CLAIMS = (
    Claim(
        "sharing is worth more than a point at d = 64",
        *(at("conv", 64), at("local", 64)),
        above=0.01,
    ),
    Claim(
        "locality is worth more than a point at d = 64",
        *(at("local", 64), at("dense", 64)),
        above=0.01,
    ),
    Claim(
        "dense loses more than 10 points from d = 16 to 64",
        *(at("dense", 16), at("dense", 64)),
        above=0.1,
    ),
    Claim(
        "local loses less than dense, by more than a point",
        *(at("dense", 16), at("dense", 64)),
        above=0.01,
        minus=(at("local", 16), at("local", 64)),
    ),
    Claim(
        "the convolution loses less than 5 points",
        *(at("conv", 16), at("conv", 64)),
        below=0.05,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    lengths: tuple[int, ...] = (8, 16, 32)
    """Positions of the inputs; d, the number of values, is twice that."""
    sizes: tuple[int, ...] = (8, 32, 128, 512, 2048, 8192)
    """Numbers of training examples."""
    steps: int = 1000
    batch_size: int = 128
    """Examples per step, or all if there are fewer."""
    seeds: int = 10
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


def points(settings: Settings) -> Points:
    """Return every rung on every length, number of examples and seed. Raise `InputError`."""
    check_counts(lengths=settings.lengths, sizes=settings.sizes)
    return runs(settings, product(settings.lengths, settings.sizes))


def points_to_tune(settings: Settings) -> Points:
    """Return every rung on every length, with 2 d² examples and new ones to validate on."""
    sizes = ((length, 2 * (2 * length) ** 2) for length in settings.lengths)
    return runs(replace(settings, validate=False), sizes)


def runs(settings: Settings, lengths_and_sizes: Iterable[tuple[int, int]]) -> Points:
    """Return every rung on every one of these lengths and numbers of examples, for each seed."""
    keys = [(*pair, seed) for pair in lengths_and_sizes for seed in settings.seed_range]
    data = {key: norms(*key) for key in keys}
    return {
        (rung, str(2 * length), str(size), str(seed)): settings.config(
            model,
            examples,
            optimizer="sgd",
            optimizer_args=("momentum=0.9", "nesterov=true"),
            lr=LR if settings.lr is None else settings.lr,
            batch_size=min(settings.batch_size, size),
            seed=seed,
            seeds=1,
        )
        for rung, model in rungs().items()
        for (length, size, seed), examples in data.items()
    }


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    all_d, sizes = [2 * length for length in settings.lengths], settings.sizes
    errors = {
        (rung, d): np.stack(
            [1 - results[rung, str(d), str(size)]["test_accuracy"] for size in sizes], 1
        )
        for rung, d in product(RUNGS, all_d)
    }  # (seeds, sizes)
    counts = {
        rung: np.array([[needed(sizes, c) for c in errors[rung, d]] for d in all_d]).T
        for rung in RUNGS
    }
    fits = [
        f"{rung} {100 * results[rung, str(all_d[-1]), str(sizes[-1])]['train_accuracy'].mean():.1f}"
        for rung in RUNGS
    ]
    found = [finding(rung, "d", all_d, of, sizes) for rung, of in counts.items()]
    found.append(
        "Li et al. prove a lower bound for dense that grows like d². It is about large d: a power "
        f"that is fitted from d = {all_d[0]} to {all_d[-1]} neither confirms nor refutes it."
    )
    found.append(
        f"Training accuracy at d = {all_d[-1]} with {sizes[-1]:,} examples: {', '.join(fits)} %."
    )
    needs = Table(
        f"Examples needed for an error of {100 * ERROR:.0f} % by d, geometric mean over "
        f"{settings.seeds} seeds",
        ["rung", *map(str, all_d)],
        [[rung, *(number(one, sizes) for one in of.T)] for rung, of in counts.items()],
    )
    tables = [
        Table(
            f"Test error in percent at d = {d} by number of training examples, {settings.protocol}",
            ["rung", *(f"{size:,}" for size in sizes)],
            [[rung, *errors[rung, d].T] for rung in RUNGS],
        )
        for d in all_d
    ]
    figures = {"invariance_in_label": figure(settings, all_d, errors, counts)}
    return Summary(found, [needs, *tables], figures)


def figure(
    settings: Settings,
    all_d: Sequence[int],
    errors: Mapping[tuple[str, int], np.ndarray],
    counts: Mapping[str, np.ndarray],
) -> plots.Figure:
    """Return error against examples at the largest d, and examples needed against d."""
    left = plots.Curves(
        [plots.Series(r, list(100 * errors[r, all_d[-1]].T), settings.sizes) for r in RUNGS],
        title=f"d = {all_d[-1]}",
        ticks=[f"{size:,}" for size in settings.sizes],
        log="x",
        x_label="training examples",
        y_label="test error (%)",
        references=[plots.Reference(y=100 * ERROR)],
    )
    known = {rung: is_known(of, settings.sizes) for rung, of in counts.items()}
    series = [
        plots.Series(rung, list(counts[rung][:, of].T), np.array(all_d)[of].tolist())
        for rung, of in known.items()
        if of.any()
    ]
    top = max((counts[rung][:, of].max() for rung, of in known.items() if of.any()), default=1)
    guide = 1.6 * top * (np.array(all_d) / all_d[-1]) ** 2
    right = plots.Curves(
        [
            plots.Series("d²", guide.tolist(), all_d, line="--", marker="", color=plots.GREY),
            *series,
        ],
        ticks=[str(d) for d in all_d],
        log="xy",
        x_label="d (values in an input)",
        y_label=f"examples for {100 * ERROR:.0f} % error",
    )
    return plots.Figure([left, right], note="right: numbers that are bounds are left out")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "d", "size", "seed drawn"),
    points,
    summarize,
    claims=CLAIMS,
    pooled=True,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.03, 0.1, 0.3), "weight_decay": (0.0, 0.003, 0.03)},
        points=points_to_tune,
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
