"""In which layers is a bias worth most?

    python -m experiments.which_layer
    python -m experiments.which_layer --tune   # choose the rates again

The network of the ladder has three convolutions. Sharing is taken from some of them, which then
have a kernel for every position (`cnn.ablations.unshare`), or locality is taken from them, too, so
that every position sees every other (`densify`). This is done to each layer alone, to two and to
all three: all 2³ sets for either bias, of which the empty one is the convolution. Width, depth,
optimizer, steps and data order stay. The maps have 19, 10 and 5 positions, so the earlier a layer,
the more kernels it gets where it does not share.

The data is MNIST-1D, in order, and with its positions permuted, which leaves no neighbourhoods to
the first layer. Every seed draws its own permutation. Learning rate and weight decay of every
network are tuned for each order. To a first layer without locality all orders are alike, so such a
network has one recipe for both.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, rungs, study
from experiments.harness.study import Claim, Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, models

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.train import Config

QUESTION = "In which layers is a bias worth most?"
HYPOTHESIS = (
    "in the first: to share and to be local there is worth more than a point, and more than in the "
    "last layer; on permuted positions, it is the first layer that should not be local."
)
SHARING, LOCALITY = "sharing", "locality"
SETS = ("1", "2", "3", "1+2", "1+3", "2+3", "1+2+3")
"""The layers that are freed."""
CONV = ("nothing", "none")
ORDERED, PERMUTED = "ordered", "permuted"
CLAIMS = (
    *(
        Claim(
            f"{bias} in the first layer is worth more than a point",
            *((*CONV, ORDERED), (bias, "1", ORDERED)),
            above=0.01,
        )
        for bias in (SHARING, LOCALITY)
    ),
    *(
        Claim(
            f"{bias} is worth more in the first layer than in the last",
            *((bias, "3", ORDERED), (bias, "1", ORDERED)),
            above=0.01,
        )
        for bias in (SHARING, LOCALITY)
    ),
    Claim(
        "on permuted data, the first layer is better without locality",
        *((LOCALITY, "1", PERMUTED), (*CONV, PERMUTED)),
        above=0.01,
    ),
    Claim(
        "on permuted data, the first layer rather than the last",
        *((LOCALITY, "1", PERMUTED), (LOCALITY, "3", PERMUTED)),
        above=0.01,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    biases: tuple[str, ...] = (SHARING, LOCALITY)
    """What is taken from layers."""
    sets: tuple[str, ...] = SETS
    """Layers that it is taken from."""
    steps: int = 600
    seeds: int = 10
    """Seeds per point. On permuted data each has an order of its own."""
    out: Path = Path("results/which_layer")

    large: ClassVar[str] = ""


def networks(settings: Settings) -> dict[Name, nn.Module]:
    """Return the networks by what is taken from which layers. Raise `InputError`."""
    conv = models.cnn1d()
    ablate = {SHARING: ablations.unshare, LOCALITY: ablations.densify}
    wheres = {
        layers: tuple(f"layers_{2 * int(i) - 2}" for i in layers.split("+")) for layers in SETS
    }
    found: dict[Name, nn.Module] = {CONV: conv}
    for bias, layers in itertools.product(settings.biases, settings.sets):
        where = study.choose("set of layers", layers, wheres)
        found[bias, layers] = study.choose("bias", bias, ablate)(conv, where=where)
    return found


def points(settings: Settings) -> Points:
    """Return every network on data in order, and on permuted data for each seed."""
    data = settings.load()
    permuted = {seed: rungs.permuted(data, seed) for seed in settings.seed_range}
    found: dict[Name, Config] = {}
    for name, model in networks(settings).items():
        found[*name, ORDERED, "all seeds"] = settings.config(model, data)
        for seed, moved in permuted.items():
            config = settings.config(model, moved, seed=seed, seeds=1)
            found[*name, PERMUTED, str(seed)] = config
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figure."""
    rows = [
        [
            f"without {bias} in {layers}" if (bias, layers) != CONV else "conv",
            results[bias, layers, ORDERED].parameters,
            *(results[bias, layers, order]["test_accuracy"] for order in (ORDERED, PERMUTED)),
        ]
        for bias, layers in networks(settings)
    ]
    heads = ["network", "parameters", "ordered, %", "permuted, %"]
    table = Table(settings.caption("order of positions"), heads, rows)
    return Summary(findings(settings, results), [table], {"which_layer": figure(settings, results)})


def findings(settings: Settings, results: Results) -> list[str]:
    """Return what each bias is worth in each set of layers."""
    found = []
    for bias, order in itertools.product(settings.biases, (ORDERED, PERMUTED)):
        worth = []
        for layers in settings.sets:
            terms = [((*CONV, order), 1), ((bias, layers, order), -1)]
            worth.append(f"{layers}: {100 * study.estimate(results, terms).mean:+.1f}")
        found.append(f"Points that {bias} is worth in layers, {order}: {', '.join(worth)}.")
    return found


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy by the layers that are freed, beside that of the convolution."""

    def panel(order: str) -> plots.Dots:
        conv = 100 * float(results[*CONV, order]["test_accuracy"].mean())
        labels = {SHARING: "local", LOCALITY: "dense"}
        return plots.Dots(
            [
                plots.Series(
                    labels[bias],
                    [100 * results[bias, each, order]["test_accuracy"] for each in settings.sets],
                )
                for bias in settings.biases
            ],
            settings.sets,
            title=order,
            x_label="layers that are freed",
            y_label=f"{settings.part} accuracy (%)",
            references=[plots.Reference(y=conv, label="conv", color=plots.BLUE, line="-")],
        )

    return plots.Figure([panel(ORDERED), panel(PERMUTED)], legend="below")


def tuned_together(name: Name) -> Name:
    """Return the points that have the settings of a point."""
    bias, layers, order, _ = name
    is_free_of_order = bias == LOCALITY and "1" in layers.split("+")
    return (bias, layers) if is_free_of_order else (bias, layers, order)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("without", "layers", "order", "draw"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__,
        by=tuned_together,
        grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)},
    ),
    pooled=True,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
