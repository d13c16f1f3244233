"""Is Inception a step from convolutions to depthwise separable ones?

    python -m experiments.inception_spectrum
    python -m experiments.inception_spectrum --tune   # choose the rates again

A 1×1 convolution over all channels, then windows of 9 samples (as many taps as 3×3 pixels) over the
channels of a group. With one group this is a standard convolution, behind a 1×1 one. With as many
groups as channels (C) it is a depthwise separable one, in the order of "Extreme Inception". The
groups between the ends are the segments of channels of an Inception module, which has a few.

The network has a first convolution on MNIST-1D, then two of these modules, each with stride 2, and
a dense layer. Between the two convolutions of a module is no ReLU. So at the same width, with 32
channels, each network computes a subset of what the one before it does, with fewer weights. At
equal parameters, or at equal multiply-accumulates, more groups afford more channels
(`cnn.ablations.match`, as nearly as multiples of the groups can). Learning rate and weight decay
of every network are tuned.

Reference:
    Chollet 2017, "Xception: Deep learning with depthwise separable convolutions": Inception modules
    are "an intermediate step in-between regular convolution and the depthwise separable
    convolution" (abstract). The number of segments makes a spectrum, whose middle had not been
    explored; Inception has 3 or 4 segments; and a ReLU between the two convolutions of an Xception
    module harms (sections 1.2 and 4.7, from memory, not checked).
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise, product
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from cnn.errors import InputError, unknown_name
from experiments.harness import cli, plots, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import layers

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn

QUESTION = "Is Inception a step from convolutions to depthwise separable ones?"
HYPOTHESIS = (
    "it is: at equal parameters and at equal multiply-accumulates accuracy rises from one group to "
    "as many as there are channels, by more than a point, and 4 groups lie between; at the same "
    "width, the weights that groups save cost less than a point."
)
SHAPE, CHANNELS, WINDOW = (40, 1), 32, 9
"""Of an example of MNIST-1D; channels of the standard network; samples of a window."""
SAME_WIDTH, PARAMETERS, MACS = "same width", "equal parameters", "equal MACs"
ONE, DEPTHWISE = "1", "C"
"""The ends of the spectrum, in groups."""
WIDTHS = {
    SAME_WIDTH: {"2": CHANNELS, "4": CHANNELS, "8": CHANNELS, DEPTHWISE: CHANNELS},
    PARAMETERS: {"2": 42, "4": 56, "8": 64, DEPTHWISE: 88},
    MACS: {"2": 42, "4": 52, "8": 56, DEPTHWISE: 72},
}
"""Channels by budget and groups: at equal cost those of `cnn.ablations.match`."""
STANDARD = (ONE, SAME_WIDTH)
CLAIMS = (
    *(
        Claim(
            f"{budget}: depthwise is better than one group by a point",
            *((DEPTHWISE, budget), STANDARD),
            above=0.01,
        )
        for budget in (PARAMETERS, MACS)
    ),
    Claim("equal parameters: 4 groups are better than one", ("4", PARAMETERS), STANDARD, above=0.0),
    Claim(
        "equal parameters: depthwise is better than 4 groups",
        *((DEPTHWISE, PARAMETERS), ("4", PARAMETERS)),
        above=0.0,
    ),
    Claim(
        "same width: depthwise costs less than a point",
        *((DEPTHWISE, SAME_WIDTH), STANDARD),
        above=-0.01,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    groups: tuple[str, ...] = ("2", "4", "8", DEPTHWISE)
    """Numbers of groups, besides 1; C is one for every channel."""
    budgets: tuple[str, ...] = (SAME_WIDTH, PARAMETERS, MACS)
    """What a network has in common with the standard one."""
    steps: int = 500
    seeds: int = 10
    out: Path = Path("results/inception_spectrum")

    large: ClassVar[str] = ""


def network(groups: str, channels: int) -> nn.Module:
    """Return the network with two modules of so many groups, one for every channel if it is C."""
    count = channels if groups == DEPTHWISE else int(groups)
    module = (
        layers.Conv(channels, 1, use_bias=False, scale=1.0),
        layers.Conv(channels, WINDOW, 2, padding=WINDOW // 2, groups=count),
        layers.ReLU(),
    )
    first = (layers.Conv(channels, 5, 2, padding=1), layers.ReLU())
    return layers.Chain((*first, *module * 2, layers.Flatten(), layers.Dense(10, scale=1.0)))


def networks(settings: Settings) -> dict[Name, nn.Module]:
    """Return the networks by groups and budget, the standard one first. Raise `InputError`."""
    found: dict[Name, nn.Module] = {STANDARD: network(ONE, CHANNELS)}
    for budget, groups in product(settings.budgets, settings.groups):
        widths = study.choose("budget", budget, WIDTHS)
        if groups not in widths:
            raise unknown_name("number of groups", groups, widths)
        found[groups, budget] = network(groups, widths[groups])
    if len(found) == 1:
        raise InputError("groups and budgets must name at least one each")
    return found


def points(settings: Settings) -> Points:
    """Return a point per network. Raise `InputError`."""
    models = networks(settings)
    data = settings.load()
    return {name: settings.config(model, data) for name, model in models.items()}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    costs = study.costs(networks(settings), SHAPE)
    rows = [
        [
            f"{name[0]}, {name[1]}" if name != STANDARD else ONE,
            WIDTHS[name[1]].get(name[0], CHANNELS),
            *costs[name],
            results[name]["test_accuracy"],
            results[name]["train_accuracy"],
        ]
        for name in costs
    ]
    heads = ["groups", "channels", "parameters", "MACs", f"{settings.part}, %", "training, %"]
    table = Table(settings.caption(), heads, rows)
    drawn = {"inception_spectrum": figure(settings, results)}
    return Summary(findings(settings, results), [table], drawn)


def findings(settings: Settings, results: Results) -> list[str]:
    """Return what each step along the spectrum is worth, by budget."""
    found = []
    for budget in settings.budgets:
        path = [STANDARD, *((groups, budget) for groups in settings.groups)]
        steps = []
        for before, after in pairwise(path):
            one = study.estimate(results, [(after, 1), (before, -1)])
            worth = f"{100 * one.mean:+.1f} ± {100 * one.half():.1f}"
            steps.append(f"from {before[0]} to {after[0]}: {worth}")
        found.append(
            f"At {budget}, points from one number of groups to the next (± half of the 95 % "
            f"interval, each by itself): {', '.join(steps)}."
        )
    return found


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy along the spectrum, by budget."""

    def accuracy(name: Name) -> np.ndarray:
        return 100 * results[name]["test_accuracy"]

    panel = plots.Curves(
        [
            plots.Series(
                budget,
                [accuracy(STANDARD), *(accuracy((each, budget)) for each in settings.groups)],
            )
            for budget in settings.budgets
        ],
        ticks=[ONE, *settings.groups],
        x_label="groups of channels",
        y_label=f"{settings.part} accuracy (%)",
    )
    return plots.Figure([panel], note="C: one group for every channel")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("groups", "budget"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
