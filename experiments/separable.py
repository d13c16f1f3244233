"""What is the cheapest way to spend weights in a convolution?

    python -m experiments.separable --seeds 5

The network of the ladder with 32 channels, on MNIST-1D, has its two inner convolutions (windows of
3, stride 2, all channels to all) replaced by

    grouped      4 groups of channels that do not see each other
    separable    a window per channel, then a 1×1 convolution over channels (Chollet 2017)
    inception    windows of 1, 3 and 5 and a max-pooling side by side, the last three with a 1×1
                 convolution to fewer channels, in the proportions of GoogLeNet's stage 3a (Szegedy
                 et al. 2015)

Each has the same width as the standard network, or is made so wide that it has as many parameters,
or as many multiply-accumulates (`cnn.ablations.match`). The groups of both convolutions are the
same, so they meet only in the head. Inception also has windows of 5, a max-pooling and one more
ReLU; the study does not separate these from the factorization.

Reference:
    Chollet 2017 reports for Xception, with the parameters of Inception V3, 79.0 % on ImageNet
    against 78.2. MobileNet (Howard et al. 2017) loses 1.1 points there, 70.6 instead of 71.7, with
    a seventh of the parameters and a ninth of the MACs of its standard counterpart.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from cnn.errors import InputError, unknown_name
from experiments.harness import cli, plots, study
from experiments.harness.study import Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, layers
    from cnn.layers import tree

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.ablations.budget import Cost

QUESTION = "What is the cheapest way to spend weights in a convolution?"
HYPOTHESIS = (
    "factorized convolutions lose at the same width and win at the same number of parameters, "
    "because the width that they can afford is worth more than what factors cannot express."
)
SHAPE, IMAGES = (40, 1), (28, 28, 1)
"""Of an example of MNIST-1D, and of Fashion-MNIST."""
INNER = ("layers_2", "layers_4")
"""The two convolutions that are replaced; the first one has a single input channel and stays."""
KINDS = ("standard", "grouped", "separable", "inception")
SAME_WIDTH = "same width"
EQUAL: dict[str, Cost] = {"equal parameters": "parameters", "equal MACs": "macs"}
WHOLE = ("standard", SAME_WIDTH)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    channels: int = 32
    """Channels of the standard network, a multiple of 16."""
    kinds: tuple[str, ...] = KINDS[1:]
    """Replacements of the standard convolution."""
    seeds: int = 3
    full: bool = False
    """Use Fashion-MNIST: about an hour of one core (estimated)."""
    out: Path = Path("results/separable")


def inception(channels: int, rank: int = 1) -> nn.Module:
    """Return parallel windows that make `channels` from a map and halve its size."""
    part, one = channels // 16, (1,) * rank

    def windows(reduced: int, features: int, window: int) -> nn.Module:
        last = layers.Conv(features, (window,) * rank, strides=2, padding=window // 2)
        return layers.Chain((layers.Conv(reduced, one), layers.ReLU(), last))

    pool = layers.MaxPool((3,) * rank, strides=2, padding=1)
    branches = (
        layers.Conv(4 * part, one, strides=2),
        windows(6 * part, 8 * part, 3),
        windows(part, 2 * part, 5),
        layers.Chain((pool, layers.Conv(2 * part, one))),
    )
    return layers.Concat(branches)


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
    match kind:
        case "grouped":
            return ablations.group(model, 4, INNER)
        case "separable":
            return ablations.separate(model, where=INNER)
        case "inception":
            return tree.map_layers(
                model, lambda name, layer: inception(channels, rank) if name in INNER else layer
            )
    raise unknown_name("kind", kind, KINDS[1:])


@functools.cache  # widths are searched
def networks(settings: Settings) -> dict[Name, nn.Module]:
    """Return the networks by kind and by what they have in common with the standard one.

    Raise `InputError` if the width is not a multiple of 16, or a kind is unknown.
    """
    if settings.channels < 16 or settings.channels % 16:
        raise InputError(f"channels must be a positive multiple of 16, got {settings.channels}")
    shape = IMAGES if settings.full else SHAPE
    rank = len(shape) - 1
    whole = standard(settings.channels, rank)
    found: dict[Name, nn.Module] = {WHOLE: whole}
    for kind in settings.kinds:
        model = factorized(kind, settings.channels, rank)
        found[kind, SAME_WIDTH] = model
        for budget, cost in EQUAL.items():
            found[kind, budget] = ablations.match(model, whole, shape, cost).model
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
    accuracy = {name: outcome["test_accuracy"] for name, outcome in results.items()}
    findings = []
    for budget in (*EQUAL, SAME_WIDTH):
        names = [(kind, budget) for kind in settings.kinds]
        best = max([WHOLE, *names], key=lambda name: accuracy[name].mean())
        gaps = [
            f"{n[0]} {study.difference(accuracy[n], accuracy[WHOLE], brief=True)}" for n in names
        ]
        findings.append(
            f"{budget[0].upper()}{budget[1:]}: {best[0]} is the most accurate "
            f"({100 * accuracy[best].mean():.1f} %); "
            f"differences to standard in points, with 95 % intervals: {', '.join(gaps)}."
        )
    known = costs(settings)
    rows = [
        [", ".join(name), *known[name], outcome["test_accuracy"], outcome["train_accuracy"]]
        for name, outcome in results.items()
    ]
    heads = ["network", "parameters", "MACs", f"{settings.part}, %", "training, %"]
    caption = f"Accuracy on {settings.title} in percent, {settings.protocol}"
    pairs = [(name, WHOLE) for name in results if name != WHOLE]
    tables = [Table(caption, heads, rows), study.differences(results, pairs)]
    return Summary(findings, tables, {"separable": figure(settings, results, known)})


def figure(
    settings: Settings, results: Results, known: Mapping[Name, tuple[int, int]]
) -> plots.Figure:
    """Return accuracy against parameters, and against multiply-accumulates."""

    def panel(which: int, label: str) -> plots.Curves:
        series = []
        for kind in ("standard", *settings.kinds):
            names = sorted((n for n in known if n[0] == kind), key=lambda n: known[n][which])
            scores = [100 * results[name]["test_accuracy"] for name in names]
            series.append(plots.Series(kind, scores, [known[name][which] / 1000 for name in names]))
        return plots.Curves(
            series,
            x_label=f"{label} (thousands)",
            y_label=f"{settings.part} accuracy (%)",
            x_limits=(0, None),
            legend="" if which else "upper left",
            references=[plots.Reference(x=known[WHOLE][which] / 1000)],
        )

    return plots.Figure([panel(0, "parameters"), panel(1, "MACs")], share_y=True)


STUDY = study.Study(QUESTION, HYPOTHESIS, ("network", "budget"), points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
