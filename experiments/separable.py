"""What is the cheapest way to spend weights in a convolution?

    python -m experiments.separable

On MNIST-1D, the network of the ladder with 32 channels has its two inner convolutions (windows of
3, stride 2, all channels to all) replaced by

    grouped      4 groups of channels that do not see each other
    separable    a window per channel, then a 1×1 convolution over channels (Chollet 2017)
    inception    windows of 1, 3 and 5 and a max-pooling side by side, the last three beside a 1×1
                 with fewer channels, in the proportions of GoogLeNet's stage 3a (Szegedy et al.
                 2015)

at the same width, and made as wide as it takes for as many parameters as the standard network, or
for as many multiply-accumulates (`cnn.ablations.match`). Chollet (2017) reports for Xception, with
the parameters of Inception V3, 79.0 % on ImageNet against 78.2, and takes this for a more efficient
use of parameters; MobileNet (Howard et al. 2017) loses 1.1 points there, 70.6 for 71.7, with a
seventh of the parameters and a ninth of the MACs of its standard counterpart.

Measured (jax 0.10.2): test accuracy in percent, mean ± standard deviation of 5 seeds (`--seeds 5`;
563 s of one core, 3 seeds take three fifths of it), 2,000 steps; training accuracy is 100 for all.
The last column is the difference to standard, paired by seed, with its 95 % interval:

                                  parameters     MACs     accuracy    over standard
    standard                           8,010   50,720   94.0 ± 0.7
    grouped, same width                3,402   16,160   91.1 ± 1.0   −2.9 (−4.7, −1.2)
    grouped, equal parameters          7,962   43,400   93.5 ± 0.5   −0.5 (−1.8, 0.9)
    grouped, equal MACs                8,890   49,200   93.9 ± 0.5   −0.1 (−1.2, 1.0)
    separable, same width              4,106   21,440   92.6 ± 0.8   −1.4 (−2.8, 0.0)
    separable, equal parameters        7,948   45,325   94.1 ± 0.9   +0.1 (−1.7, 1.9)
    separable, equal MACs              8,746   50,440   94.3 ± 1.5   +0.3 (−2.0, 2.7)
    inception, same width              4,790   32,632   94.1 ± 0.9   +0.1 (−1.2, 1.4)
    inception, equal parameters        8,148   59,359   95.0 ± 0.9   +1.0 (0.2, 1.9)
    inception, equal MACs              6,995   50,892   95.2 ± 0.5   +1.2 (0.8, 1.7)

The hypothesis holds in its first half for groups and, at the edge of error, for separable windows;
in its second half for inception alone. Groups and separable windows, as wide as equal costs allow,
come back to the standard convolution, not above it. (The groups of both places are the same, so
they meet in the head only.) Inception loses nothing at the same width with 60 % of the parameters
and 64 % of the MACs, and wins at equal ones. That need not be the factors: it has windows of 5, a
max-pooling and one more ReLU in every place, too, and which of them it is was not looked into.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    from flax import linen as nn
    from matplotlib.figure import Figure

    from cnn.ablations.budget import Cost
    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "What is the cheapest way to spend weights in a convolution?"
HYPOTHESIS = (
    "factorised convolutions lose at the same width and win at the same parameters, because the "
    "width they can afford is worth more than what the factors cannot say."
)
SHAPE, IMAGES = (40, 1), (28, 28, 1)
"""Of an example of MNIST-1D, and of Fashion-MNIST."""
INNER = ("layers_2", "layers_4")
"""The two convolutions that are replaced; the first has one input channel, and stays."""
KINDS = ("standard", "grouped", "separable", "inception")
SAME_WIDTH = "same width"
EQUAL: dict[str, Cost] = {"equal parameters": "parameters", "equal MACs": "macs"}


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """How wide the standard network is, and what is kept."""

    channels: int = 32
    """Channels of the standard network, a multiple of 16."""
    kinds: tuple[str, ...] = KINDS[1:]
    """What stands in for the standard convolution."""
    seeds: int = 3
    """Seeds per point; a seed has the same data order at every point."""
    full: bool = False
    """Fashion-MNIST, into the folder full inside of out.

    About an hour of one core, estimated from 100 steps of three of the networks.
    """
    out: Path = Path("results/separable")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def inception(channels: int, rank: int = 1) -> nn.Module:
    """Return windows side by side that make `channels` from a map, and halve its size."""
    from cnn.layers import Chain, Concat, Conv, MaxPool, ReLU

    def windows(reduced: int, features: int, window: int) -> Chain:
        last = Conv(features, (window,) * rank, strides=2, padding=window // 2)
        return Chain((Conv(reduced, one), ReLU(), last))

    part, one = channels // 16, (1,) * rank
    pooled = Chain((MaxPool((3,) * rank, strides=2, padding=1), Conv(2 * part, one)))
    ones = Conv(4 * part, one, strides=2)
    return Concat((ones, windows(6 * part, 8 * part, 3), windows(part, 2 * part, 5), pooled))


def standard(channels: int, rank: int = 1) -> nn.Module:
    """Return the network of the ladder, or its twin for images."""
    from cnn.layers import Chain, Conv, Dense, Flatten, ReLU

    windows = [(window,) * rank for window in (5, 3, 3)]
    layers = [part for w in windows for part in (Conv(channels, w, 2, padding=1), ReLU())]
    return Chain((*layers, Flatten(), Dense(10, scale=1.0)))


def factorised(kind: str, channels: int, rank: int = 1) -> nn.Module:
    """Return the network with its inner convolutions replaced. Raises `InputError`."""
    from cnn.ablations import group, separate
    from cnn.errors import unknown_name
    from cnn.layers.tree import replace

    model = standard(channels, rank)
    match kind:
        case "grouped":
            return group(model, 4, INNER)
        case "separable":
            return separate(model, where=INNER)
        case "inception":
            return replace(model, lambda n, x: inception(channels, rank) if n in INNER else x)
    raise unknown_name("kind", kind, KINDS[1:])


def shape_of(settings: Study) -> tuple[int, ...]:
    """Return the shape of an example of the data that is asked for."""
    return IMAGES if settings.full else SHAPE


def networks(settings: Study) -> dict[Name, nn.Module]:
    """Return the networks by what stands in the two places, and by what they have in common.

    Raises `InputError` for a width that is no multiple of 16, or an unknown kind.
    """
    from cnn.ablations import match
    from cnn.errors import InputError

    if settings.channels < 16 or settings.channels % 16:
        raise InputError(f"channels {settings.channels} cannot be: give 16 or a multiple of it")
    shape = shape_of(settings)
    rank = len(shape) - 1
    whole = standard(settings.channels, rank)
    found: dict[Name, nn.Module] = {("standard", SAME_WIDTH): whole}
    for kind in settings.kinds:
        model = factorised(kind, settings.channels, rank)
        found[kind, SAME_WIDTH] = model
        for budget, cost in EQUAL.items():
            found[kind, budget] = match(model, whole, shape, cost).model
    return found


def points(settings: Study) -> dict[Name, Config]:
    """Return a point per network."""
    from cnn.train import Config

    data, recipe = settings.data("mnist1d"), settings.recipe()
    return {name: Config(model=m, data=data, **recipe) for name, m in networks(settings).items()}


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    whole = ("standard", SAME_WIDTH)
    level = results[whole]["test_accuracy"]
    findings = []
    for budget in (SAME_WIDTH, *EQUAL):
        gaps = {
            kind: study.paired(100 * results[kind, budget]["test_accuracy"], 100 * level)
            for kind in settings.kinds
        }
        shown = ", ".join(f"{kind} {gap:+.1f} ± {half:.1f}" for kind, (gap, half) in gaps.items())
        findings.append(f"Points over standard at {budget}, with 95 % intervals: {shown}.")
    pairs = [(name, whole) for name in results if name != whole]
    tables = [table(settings, results), study.differences(results, pairs)]
    return study.Story(findings, tables, {"separable": draw(settings, results)})


def costs(settings: Study) -> dict[Name, tuple[int, int]]:
    """Return parameters and multiply-accumulates for one example, by network."""
    from cnn.geometry import describe

    shape = shape_of(settings)
    known = {name: describe(model, shape) for name, model in networks(settings).items()}
    return {name: (geometry.params, geometry.macs) for name, geometry in known.items()}


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return costs, and accuracies in percent, a row per network."""
    from experiments.harness.report import Table, percent

    rows = [
        [
            ", ".join(name),
            f"{params:,}",
            f"{macs:,}",
            *(percent(results[name][f"{k}_accuracy"]) for k in ("test", "train")),
        ]
        for name, (params, macs) in costs(settings).items()
    ]
    part = "validation" if settings.validate else "test"
    caption = (
        f"Accuracy on {settings.title('MNIST-1D')} in percent, mean ± standard deviation over "
        f"{settings.seeds} seeds, {settings.steps:,} steps"
    )
    return Table(caption, ["network", "parameters", "MACs", f"{part}, %", "training, %"], rows)


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw accuracy against parameters, and against multiply-accumulates."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import AMBER, BLACK, BLUE, COLUMN_WIDTH, SKY, STYLE, spread

    known = costs(settings)
    looks = dict(zip(KINDS, zip((BLUE, BLACK, AMBER, SKY), "os^D", strict=True), strict=True))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.6), layout="constrained")
        panels = figure.subplots(1, 2, sharey=True)
        for axes, which, label in zip(panels, (0, 1), ("parameters", "MACs"), strict=True):
            for kind, (colour, marker) in looks.items():
                names = [n for n in known if n[0] == kind]
                if not names:
                    continue
                names.sort(key=lambda n: known[n][which])
                scores = [100 * results[name]["test_accuracy"] for name in names]
                axes.errorbar(
                    [known[name][which] for name in names],
                    *spread(scores),
                    color=colour,
                    fmt=f"{marker}-",
                    ms=4,
                    lw=1,
                    capsize=2,
                    label=kind,
                )
            axes.axvline(known["standard", SAME_WIDTH][which], color=BLUE, lw=0.6, ls=":")
            axes.set_xlim(left=0)
            axes.xaxis.set_major_formatter("{x:,.0f}")
            axes.set_xlabel(label)
            axes.grid(axis="y", lw=0.4, alpha=0.5)
        part = "validation" if settings.validate else "test"
        panels[0].set_ylabel(f"{part} accuracy (%)")
        panels[0].legend(
            frameon=False, title=f"mean ± s.d. of {settings.seeds} seeds", loc="upper left"
        )
    return figure


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("network", "budget"), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
