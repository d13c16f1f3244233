"""Is sharing worth less in wider networks?

    python -m experiments.width
    python -m experiments.width --tune   # choose the rates again

The network of the ladder, three convolutions, has 2 to 128 channels, and so has the locally
connected network with the same layers. The head is a dense layer on the flattened map, or on the
mean over its positions. In the limit of infinitely many channels, with weights as they are drawn,
both networks are the same Gaussian process if the map is flattened: the head then has independent
weights for every position, so that what two positions have in common drops out of the covariance of
the outputs. A mean over the positions keeps it.

That limit is about networks that learn no features. Here they do: Adam trains them on MNIST-1D, at
the rates that are best for each, so they may stay away from the limit, however wide they are. The
ladder has shown before, for a flattened map and 2,000 steps, that sharing is not worth less with 64
channels than with 8.

Reference:
    Novak et al. 2019, "Bayesian deep convolutional networks with many channels are Gaussian
    processes": without pooling, both limits are identical; finite convolutional networks trained by
    gradient descent can be far better than theirs (from the abstract).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.counting import check_counts
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers, models

if TYPE_CHECKING:
    from flax import linen as nn

QUESTION = "Is sharing worth less in wider networks?"
HYPOTHESIS = (
    "trained networks stay away from the limit in which sharing is worth nothing: with 128 "
    "channels it is worth more than a point, flattened or not, and hardly less than with 32; but "
    "it is worth more with the mean, for which the limits differ."
)
CONV, LOCAL = "conv", "local"
FLAT, MEAN = "flattened", "mean"
"""Heads: a dense layer on all positions, or on their mean."""


def worth(head: str, width: int) -> tuple[Name, Name]:
    """Return the points whose difference is what sharing is worth."""
    return (CONV, head, str(width)), (LOCAL, head, str(width))


CLAIMS = (
    Claim("flattened, 128 channels: sharing helps", *worth(FLAT, 128), above=0.01),
    Claim("mean, 128 channels: sharing helps", *worth(MEAN, 128), above=0.01),
    Claim(
        "flattened: less than a point of it is lost from 32 to 128 channels",
        *worth(FLAT, 32),
        below=0.01,
        minus=worth(FLAT, 128),
    ),
    Claim(
        "with 128 channels, sharing is worth more with the mean",
        *worth(MEAN, 128),
        above=0.01,
        minus=worth(FLAT, 128),
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    widths: tuple[int, ...] = (2, 8, 32, 128)
    """Channels of every layer."""
    heads: tuple[str, ...] = (FLAT, MEAN)
    """What the last dense layer sees: the flattened map, or its mean over positions."""
    steps: int = 500
    seeds: int = 10
    out: Path = Path("results/width")

    large: ClassVar[str] = ""


def networks(settings: Settings) -> dict[Name, nn.Module]:
    """Return the networks by rung, head and width. Raise `InputError`."""
    pools = {FLAT: layers.Flatten(), MEAN: layers.GlobalAvgPool()}
    found: dict[Name, nn.Module] = {}
    for head, width in product(settings.heads, settings.widths):
        *below, _, last = models.cnn1d(channels=width).layers
        conv = layers.Chain((*below, study.choose("head", head, pools), last))
        found[CONV, head, str(width)] = conv
        found[LOCAL, head, str(width)] = ablations.unshare(conv)
    return found


def points(settings: Settings) -> Points:
    """Return every network on the same data. Raise `InputError`."""
    check_counts(widths=settings.widths)
    data = settings.load()
    return {name: settings.config(model, data) for name, model in networks(settings).items()}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    rows = [
        [", ".join(name[:2]), name[2], one.parameters, one["test_accuracy"], one["train_accuracy"]]
        for name, one in results.items()
    ]
    heads = ["network", "channels", "parameters", f"{settings.part}, %", "training, %"]
    table = Table(settings.caption(), heads, rows)
    return Summary(findings(settings, results), [table], {"width": figure(settings, results)})


def findings(settings: Settings, results: Results) -> list[str]:
    """Return what sharing is worth by head and width."""
    found = []
    for head in settings.heads:
        texts = []
        for width in settings.widths:
            conv, local = worth(head, width)
            one = study.estimate(results, [(conv, 1), (local, -1)])
            texts.append(f"{width}: {100 * one.mean:+.1f} ± {100 * one.half():.1f}")
        found.append(
            f"Points that sharing is worth by channels, map {head} (± half of the 95 % interval, "
            f"each by itself): {', '.join(texts)}."
        )
    return found


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return what sharing is worth against width, beside both accuracies."""

    def accuracy(name: Name) -> list[np.ndarray]:
        return [100 * results[(*name, str(width))]["test_accuracy"] for width in settings.widths]

    lines = dict(zip(settings.heads, ("-", "--"), strict=False))
    both = [
        plots.Series(f"{rung}, {head}", accuracy((rung, head)), settings.widths, line=lines[head])
        for head, rung in product(settings.heads, (CONV, LOCAL))
    ]
    gaps = [
        plots.Series(
            head,
            [
                a - b
                for a, b in zip(*(accuracy((rung, head)) for rung in (CONV, LOCAL)), strict=True)
            ],
            settings.widths,
            line=lines[head],
            color=plots.BLACK,
        )
        for head in settings.heads
    ]
    ticks = [str(width) for width in settings.widths]
    panel = partial(plots.Curves, ticks=ticks, log="x", x_label="channels")
    left = panel(gaps, y_label="conv − local (points)", references=[plots.Reference(y=0)])
    right = panel(both, y_label=f"{settings.part} accuracy (%)")
    return plots.Figure([left, right])


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "head", "channels"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
