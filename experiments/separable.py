"""Which factorization of a convolution is worth its weights?

    python -m experiments.separable

The network of the ladder with 32 channels, on MNIST-1D, has its two inner convolutions (windows of
3, stride 2, all channels to all) replaced by

    grouped      4 groups of channels that do not see each other
    separable    a window per channel, then a 1×1 convolution over channels (Chollet 2017)
    bottleneck   a 1×1 convolution to a quarter of the channels, then the windows

All have the same windows, strides and number of ReLUs, as there is none between the factors. So
each computes a subset of what the standard convolution of its width does. The groups of both
convolutions are the same channels, which meet only in the head. Each network has the width of the
standard one, or is made so wide that it has as many parameters (`cnn.ablations.match`). Learning
rate and weight decay of every network are tuned.

Reference:
    Chollet 2017, table 1: Xception, with the parameters of Inception V3, has 79.0 % on ImageNet
    against 78.2. MobileNet (Howard et al. 2017), table 4, has 70.6 % there, its counterpart with
    standard convolutions 71.7, with 7 times the parameters. (Both from memory, not checked.)
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, study
from experiments.harness.study import Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, layers

if TYPE_CHECKING:
    from flax import linen as nn


QUESTION = "Which factorization of a convolution is worth its weights?"
HYPOTHESIS = (
    "every factorization loses at the same width and wins at the same number of parameters, "
    "because the width that it can afford is worth more than what its factors cannot express."
)
SHAPE, IMAGES = (40, 1), (28, 28, 1)
"""Of an example of MNIST-1D, and of Fashion-MNIST."""
INNER = ("layers_2", "layers_4")
"""The two convolutions that are replaced; the first one has a single input channel and stays."""
KINDS = ("grouped", "separable", "bottleneck")
BUDGETS = SAME_WIDTH, EQUAL = ("same width", "equal parameters")
WHOLE = ("standard", SAME_WIDTH)
CLAIMS = (
    *(
        study.Claim(f"{kind} loses at the same width", (kind, SAME_WIDTH), WHOLE, below=-0.01)
        for kind in KINDS
    ),
    *(
        study.Claim(f"{kind} wins at equal parameters", (kind, EQUAL), WHOLE, above=0.01)
        for kind in KINDS
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    channels: int = 32
    """Channels of the standard network, a multiple of 4."""
    kinds: tuple[str, ...] = KINDS
    """Replacements of the standard convolution."""
    steps: int = 800
    seeds: int = 10
    full: bool = False
    """Use Fashion-MNIST: several hours."""
    out: Path = Path("results/separable")


def standard(channels: int, rank: int = 1) -> nn.Module:
    """Return the network of the ladder, or the same for images."""
    convs = [
        part
        for window in (5, 3, 3)
        for part in (layers.Conv(channels, (window,) * rank, 2, padding=1), layers.ReLU())
    ]
    return layers.Chain((*convs, layers.Flatten(), layers.Dense(10, scale=1.0)))


def factorized(kind: str, channels: int, rank: int = 1) -> nn.Module:
    """Return the network with its inner convolutions replaced. Raise `InputError`."""
    model = standard(channels, rank)
    known = {
        "grouped": ablations.group(model, 4, INNER),
        "separable": ablations.separate(model, where=INNER),
        "bottleneck": ablations.bottleneck(model, channels // 4, where=INNER),
    }
    return study.choose("kind", kind, known)


@functools.cache  # widths are searched
def networks(settings: Settings) -> dict[Name, nn.Module]:
    """Return the networks by kind and by what they have in common with the standard one.

    Raise `InputError` if the width is not a multiple of 4, or a kind is unknown.
    """
    if settings.channels < 4 or settings.channels % 4:
        raise InputError(f"channels must be a positive multiple of 4, got {settings.channels}")
    shape = IMAGES if settings.full else SHAPE
    rank = len(shape) - 1
    whole = standard(settings.channels, rank)
    found: dict[Name, nn.Module] = {WHOLE: whole}
    for kind in settings.kinds:
        model = factorized(kind, settings.channels, rank)
        found[kind, SAME_WIDTH] = model
        found[kind, EQUAL] = ablations.match(model, whole, shape).model
    return found


def points(settings: Settings) -> Points:
    """Return a point per network."""
    data = settings.load()
    return {name: settings.config(model, data) for name, model in networks(settings).items()}


def costs(settings: Settings) -> dict[Name, tuple[int, int]]:
    """Return parameters and multiply-accumulates for one example, by network."""
    return study.costs(networks(settings), IMAGES if settings.full else SHAPE)


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    known = costs(settings)
    shares = [
        f"{kind} {known[kind, SAME_WIDTH][0] / known[WHOLE][0]:.0%}" for kind in settings.kinds
    ]
    findings = [f"Share of the standard network's parameters at its width: {', '.join(shares)}."]
    rows = [
        [", ".join(name), *known[name], outcome["test_accuracy"], outcome["train_accuracy"]]
        for name, outcome in results.items()
    ]
    heads = ["network", "parameters", "MACs", f"{settings.part}, %", "training, %"]
    caption = f"Accuracy on {settings.title} in percent, {settings.protocol}"
    drawn = {"separable": figure(settings, results, known)}
    return Summary(findings, [Table(caption, heads, rows)], drawn)


def figure(
    settings: Settings, results: Results, known: Mapping[Name, tuple[int, int]]
) -> plots.Figure:
    """Return accuracy by kind at both budgets, beside that of the standard network."""
    series = [
        plots.Series(budget, [100 * results[k, budget]["test_accuracy"] for k in settings.kinds])
        for budget in BUDGETS
    ]
    costs_of = [[f"{known[k, b][0] / 1000:.1f} k" for b in BUDGETS] for k in settings.kinds]
    panel = plots.Dots(
        series,
        ["{}\n{}, {}".format(k, *of) for k, of in zip(settings.kinds, costs_of, strict=True)],
        horizontal=True,
        title="kind (parameters of both)",
        x_label=f"{settings.part} accuracy (%)",
        references=[
            plots.Reference(
                x=100 * float(results[WHOLE]["test_accuracy"].mean()),
                label=f"standard ({known[WHOLE][0] / 1000:.1f} k)",
            )
        ],
        legend="below",
    )
    return plots.Figure([panel], height=3.0)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network", "budget"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__, grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.0, 0.01, 0.1)}
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
