"""Why is a network that mixes positions better than a convolution?

    python -m experiments.mixing
    python -m experiments.mixing --tune   # choose the rates again

In `experiments.ladder`, one matrix over the positions, which all channels share, beats the
convolution on MNIST-1D with fewer parameters. It differs from a convolution in three ways at once.
Here they are taken apart. The network is that of the ladder with pooling: a convolution, then two
layers on maps of 20 and 10 positions. These two have, in all eight combinations,

    reach       3 positions, or all
    positions   that share the weights, or have weights of their own
    channels    that share the weights over positions and are mixed by a 1×1 convolution after
                these, or have weights of their own for every pair of channels

The convolution has reach 3, shared by positions but not by channels; mixing has full reach, shared
by channels but not by positions. All else is the same: first layer, ReLU, pooling, head.

Reference:
    Tolstikhin et al. 2021, "MLP-Mixer": matrices over positions, shared by channels, and over
    channels, shared by positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, layers
    from experiments.harness import modules

if TYPE_CHECKING:
    from flax import linen as nn

QUESTION = "Why is a network that mixes positions better than a convolution?"
HYPOTHESIS = (
    "because it reaches all positions, which weights that channels share make affordable: with "
    "them, full reach helps, shared by positions or not, and sharing over positions still costs "
    "nothing; with weights for every pair of channels, full reach does not help."
)
NEAR, FULL = "3", "full"
SHARED, FREE = "shared", "free"
CONV, MIXING = (NEAR, SHARED, FREE), (FULL, FREE, SHARED)
"""Reach, weights by position, weights by channel."""
CLAIMS = (
    Claim("mixing beats the convolution by more than a point", MIXING, CONV, above=0.01),
    Claim(
        "so does full reach that positions share, too",
        *((FULL, SHARED, SHARED), CONV),
        above=0.01,
    ),
    Claim(
        "with channels that share, sharing over positions costs less than a point",
        *((FULL, SHARED, SHARED), MIXING),
        above=-0.01,
    ),
    Claim(
        "with channels that share, full reach helps by more than a point",
        *(MIXING, (NEAR, FREE, SHARED)),
        above=0.01,
    ),
    Claim(
        "with weights for every pair, full reach helps by less than a point",
        *((FULL, SHARED, FREE), CONV),
        below=0.01,
    ),
    Claim(
        "in the convolution, sharing over channels helps by less than a point",
        *((NEAR, SHARED, SHARED), CONV),
        below=0.01,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    reaches: tuple[str, ...] = (NEAR, FULL)
    """Positions that an output sees: 3, or all."""
    steps: int = 1000
    seeds: int = 10
    out: Path = Path("results/mixing")

    large: ClassVar[str] = ""


def layer(size: int, channels: int, name: Name) -> tuple[nn.Module, ...]:
    """Return what stands for a convolution of `channels` on a map of `size` positions."""
    reach, positions, by_channel = name
    if by_channel == SHARED:
        over = modules.OverPositions(1 if reach == NEAR else None, positions == SHARED)
        return over, layers.Conv(channels, 1)
    window = 3 if reach == NEAR else 2 * size - 1
    conv = layers.Conv(channels, (window,), padding=window // 2)
    free = ablations.unshare if reach == NEAR else ablations.densify
    return (conv if positions == SHARED else free(conv),)


def network(name: Name) -> layers.Chain:
    """Return a network by reach, weights by position, weights by channel. Raise `InputError`."""
    study.choose("reach", name[0], {NEAR: 1, FULL: None})
    first = layers.Conv(24, (5,), padding=2)
    end = (layers.ReLU(), layers.MaxPool((2,)))
    second, third = (layer(size, 24, name) for size in (20, 10))
    head = (layers.Flatten(), layers.Dense(10, scale=1.0))
    return layers.Chain((first, *end, *second, *end, *third, *end, *head))


def points(settings: Settings) -> Points:
    """Return the eight networks on the same data. Raise `InputError`."""
    data = settings.load()
    names = product(settings.reaches, (SHARED, FREE), (SHARED, FREE))
    return {name: settings.config(network(name), data) for name in names}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    rows = [
        [
            f"reach {reach}, positions {positions}, channels {channels}",
            one.parameters,
            one["test_accuracy"],
            one["train_accuracy"],
        ]
        for (reach, positions, channels), one in results.items()
    ]
    heads = ["network", "parameters", f"{settings.part}, %", "training, %"]
    table = Table(settings.caption(), heads, rows)
    figures = {"mixing": figure(settings, results)}
    return Summary(findings(settings, results), [table], figures)


def findings(settings: Settings, results: Results) -> list[str]:
    """Return what sharing over channels, and over positions, is worth in each combination."""

    def worth(a: Name, b: Name) -> str:
        one = study.estimate(results, [(a, 1), (b, -1)])
        return f"{100 * one.mean:+.1f} ± {100 * one.half():.1f}"

    over_channels, over_positions = [], []
    for reach, kept in product(settings.reaches, (SHARED, FREE)):
        gain = worth((reach, kept, SHARED), (reach, kept, FREE))
        over_channels.append(f"{gain} with reach {reach} and positions {kept}")
        gain = worth((reach, SHARED, kept), (reach, FREE, kept))
        over_positions.append(f"{gain} with reach {reach} and channels {kept}")
    about = "(± half of the 95 % interval, each by itself)"
    return [
        f"Points that sharing over channels is worth {about}: {', '.join(over_channels)}.",
        f"Points that sharing over positions is worth {about}: {', '.join(over_positions)}.",
    ]


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy by reach and by what is shared."""
    kinds = {
        "positions": (SHARED, FREE),
        "both": (SHARED, SHARED),
        "channels": (FREE, SHARED),
        "nothing": (FREE, FREE),
    }
    series = [
        plots.Series(
            f"reach {reach}",
            [100 * results[reach, *kind]["test_accuracy"] for kind in kinds.values()],
        )
        for reach in settings.reaches
    ]
    panel = plots.Dots(
        series, list(kinds), x_label="what is shared", y_label=f"{settings.part} accuracy (%)"
    )
    return plots.Figure([panel])


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("reach", "positions", "channels"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
