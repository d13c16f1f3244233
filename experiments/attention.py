"""Is attention better if it starts as a convolution?

    python -m experiments.attention
    python -m experiments.attention --tune   # choose the rates again

Four networks train on subsets of MNIST-1D, all for the same number of steps:

    conv          the network of the ladder, three convolutions
    as conv       self-attention with one head per tap, which starts as these convolutions
    near conv     the same, but the heads start wide, with e^−1 of a tap's weight beside it, and
                  27 % by content, as in the reference
    from scratch  the same, but at the start a head attends to all positions nearly alike, half by
                  position, half by content

The start of "as conv" is exact up to e^−12 (`cnn.ablations.attend`): same seed, same kernels, same
function. Then its heads may move, widen, and attend to content. They hardly did when this study
was first run, since scores as strong as that have hardly a gradient; so "near conv" was added, with
the claims on it. Mean distance of attention and share by position (`cnn.probes.attention_heads`)
say whether they do. With the most examples they are measured during training, too, in runs that end
early at the same schedule of the learning rate. `experiments.relax` frees a convolution at a chosen
step; here nothing holds the heads, and the distance shows when they leave.

Each seed draws its own subset, the same for all networks. Learning rate and weight decay of the
kernels are tuned for every network and size, as in `experiments.sample_efficiency`.

Reference:
    d'Ascoli et al. 2021, "ConViT", figure 1: on ImageNet, the fewer images there are, the more the
    convolutional start is worth, and with few of them attention without it is far behind; heads
    start with a strength of 1, and a gate of 1 (from memory, not checked).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, study
from experiments.harness.study import (
    Claim,
    Name,
    Outcome,
    Points,
    Results,
    Summary,
    Table,
    number,
)
from experiments.sample_efficiency import held_out, subsets

with epy.lazy_imports():
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnn import ablations, models, probes
    from experiments.harness import predictions

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config, Result

QUESTION = "Is attention better if it starts as a convolution?"
HYPOTHESIS = (
    "it is, by more than a point, and the more so the fewer examples there are; with few examples "
    "it is as good as the convolution, and with many it is better, as its heads look farther. A "
    "start near the convolution, from which heads can move, is better than the convolution with "
    "few and with many examples."
)
CONV, LIFTED, NEAR, SCRATCH = "conv", "as conv", "near conv", "from scratch"
FEW, SOME, MOST, END = "125", "500", "4000", "1"
"""Numbers of examples, and the share of training after which a finished run is measured."""
DISTANCE, POSITION = "distance", "by position"
"""Measures, means over layers and heads; with LAYERS there is one number for each layer."""
LAYERS = ", layers"
PROBED = 100
"""Test signals on which attention is measured."""


def _worth(text: str, a: str, b: str, examples: str, above: float) -> Claim:
    return Claim(text, (a, examples, END), (b, examples, END), above)


CLAIMS = (
    _worth("with 125 examples, a start as conv helps", LIFTED, SCRATCH, FEW, 0.01),
    _worth("with 4,000 examples, a start as conv helps", LIFTED, SCRATCH, MOST, 0.01),
    Claim(
        "it is worth less with 4,000 examples than with 500",
        *((LIFTED, MOST, END), (SCRATCH, MOST, END)),
        minus=((LIFTED, SOME, END), (SCRATCH, SOME, END)),
        below=-0.01,
    ),
    _worth("with 125 examples, it loses at most a point to conv itself", LIFTED, CONV, FEW, -0.01),
    _worth("with 4,000 examples, it is better than conv itself", LIFTED, CONV, MOST, 0.0),
    Claim(
        "with 4,000 examples, its heads look farther by more than half a position",
        *((LIFTED, MOST, END), (CONV, MOST, END)),
        above=0.5,
        measure=DISTANCE,
    ),
    _worth("with 125 examples, a start near conv is better than conv", NEAR, CONV, FEW, 0.01),
    _worth("with 4,000 examples, a start near conv is better than conv", NEAR, CONV, MOST, 0.0),
    _worth("with 4,000 examples, a start near conv helps", NEAR, SCRATCH, MOST, 0.01),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    sizes: tuple[int, ...] = (125, 500, 4000)
    """Numbers of training examples, the classes in equal parts."""
    shares: tuple[float, ...] = (0.03, 0.1, 0.3)
    """Shares of the steps after which attention is measured, with the most examples."""
    steps: int = 800
    """Optimizer steps of every run, whatever its number of examples."""
    seeds: int = 7
    """Seeds per point. Each draws a subset of its own."""
    out: Path = Path("results/attention")

    large: ClassVar[str] = ""

    def step(self, share: str) -> int:
        """Return the step at a share of the training, at least 1."""
        return max(1, round(float(share) * self.steps))


def networks() -> dict[str, nn.Module]:
    """Return the networks by name."""
    conv = models.cnn1d()
    return {
        CONV: conv,
        LIFTED: ablations.attend(conv),
        NEAR: ablations.attend(conv, locality=1.0, gate=1.0),
        SCRATCH: ablations.attend(conv, locality=1e-3, gate=0.0),
    }


def cosine(step: Any, steps: int) -> Any:
    """Return the factor of the learning rate, half a cosine from 1 down to 0 over `steps`."""
    return (1 + jnp.cos(jnp.pi * step / steps)) / 2


def points(settings: Settings) -> Points:
    """Return every network on every subset, each with one seed, and runs that end early.

    Raise `InputError` unless these end between the first and the last step.
    """
    if wrong := [share for share in settings.shares if not 0 < share < 1]:
        raise InputError(f"shares must be above 0 and below 1, got {wrong[0]}")
    sets = subsets(settings.sizes, dict.fromkeys(settings.seed_range, settings.load()))
    found = whole_runs(settings, sets)
    schedule: Any = settings.schedule
    if schedule == "cosine":
        schedule = partial(cosine, steps=settings.steps)  # one, so that all runs share programs
    for (name, n, _, seed), config in list(found.items()):
        if n == str(max(settings.sizes)) and name != CONV:
            for share in map(str, settings.shares):
                few = replace(config.data, test=predictions.sample(config.data.test))
                found[name, n, share, seed] = replace(
                    config, data=few, steps=settings.step(share), schedule=schedule
                )
    return found


def tuning_points(settings: Settings) -> Points:
    """Return the points to tune on: each seed holds out another tenth of the training set."""
    sets = subsets(settings.sizes, held_out(settings.load(), settings.seed_range))
    return whole_runs(settings, sets, validate=False)


def whole_runs(
    settings: Settings, sets: Mapping[tuple[str, str], Dataset], **changes: bool
) -> dict[Name, Config]:
    """Return every network on every subset."""
    return {
        (name, n, END, seed): settings.config(model, data, seed=int(seed), seeds=1, **changes)
        for name, model in networks().items()
        for (n, seed), data in sets.items()
    }


def measure(config: Config, result: Result) -> dict[str, list[Any]]:
    """Return distance and share by position, of each layer and as means over the layers.

    A convolution is measured as the attention that it is lifted to.
    """
    x, shape = predictions.sample(config.examples.test, PROBED).x, config.data.input_shape
    is_conv = config.model == networks()[CONV]
    attention = networks()[LIFTED] if is_conv else config.model
    probe = jax.jit(probes.attention_heads, static_argnums=0)
    found: dict[str, list[Any]] = {}
    for state in result.states:
        weights = ablations.lift(state.variables, config.model, attention, shape)
        heads = probe(attention, weights, x).values()
        values = {
            DISTANCE: np.array([float(one.distance.mean()) for one in heads]),
            POSITION: np.array([float(one.gate.mean()) for one in heads]),
        }
        for name, of_layers in values.items():
            found.setdefault(name, []).append(of_layers.mean())
            found.setdefault(name + LAYERS, []).append(of_layers)
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figures."""
    names, sizes = list(networks()), sorted(settings.sizes)
    errors = {
        name: [1 - results[name, str(n), END]["test_accuracy"] for n in sizes] for name in names
    }
    heads = [f"{n:,}" for n in sizes]
    caption = (
        f"{settings.part.capitalize()} error on {settings.title} in percent by training examples, "
        f"a subset for each seed, {settings.protocol}"
    )
    panel = plots.Curves(
        [plots.Series(name, [100 * one for one in of], sizes) for name, of in errors.items()],
        ticks=heads,
        log="xy" if len(sizes) > 1 else "y",  # one size has no range
        x_label="training examples",
        y_label=f"{settings.part} error (%)",
    )
    most = {name: results[name, str(sizes[-1]), END] for name in names}
    rows = [
        [
            f"{name}, layer {i + 1}",
            *(number(outcome[key + LAYERS][:, i], 2) for key in (DISTANCE, POSITION)),
        ]
        for name, outcome in most.items()
        for i in range(outcome[DISTANCE + LAYERS].shape[1])
    ]
    about = f"Attention after training on {sizes[-1]:,} examples, means over the heads"
    tables = [
        Table(caption, ["network", *heads], [[name, *of] for name, of in errors.items()]),
        Table(about, ["layer", "distance in its input positions", "share by position"], rows),
    ]
    figures = {
        "attention": plots.Figure([panel]),
        "attention_distance": distances(settings, results, most),
    }
    return Summary(findings(sizes, results, most), tables, figures)


def findings(sizes: Sequence[int], results: Results, most: Mapping[str, Outcome]) -> list[str]:
    """Return what the start is worth at each size, and how far the heads look."""
    worth = []
    for start, text in ((LIFTED, "as a convolution"), (NEAR, "near one")):
        points = []
        for n in sizes:
            terms = [((start, str(n), END), 1), ((SCRATCH, str(n), END), -1)]
            points.append(f"{100 * study.estimate(results, terms).mean:+.1f} with {n:,}")
        worth.append(f"To start {text} is worth, in points: {', '.join(points)} examples.")
    looks = [
        f"{name} {one[DISTANCE].mean():.2f} and {100 * one[POSITION].mean():.1f} %"
        for name, one in most.items()
    ]
    return [
        *worth,
        f"Mean distance of attention and its share by position after training on {sizes[-1]:,} "
        f"examples: {', '.join(looks)}.",
    ]


def distances(settings: Settings, results: Results, most: Mapping[str, Outcome]) -> plots.Figure:
    """Return distance during training, and against depth at its end."""
    shares = [*map(str, sorted(settings.shares)), END]
    steps = [settings.step(share) for share in shares]
    largest = str(max(settings.sizes))
    over_time = [
        plots.Series(name, [results[name, largest, share][DISTANCE] for share in shares], steps)
        for name in (LIFTED, NEAR, SCRATCH)
    ]
    by_layer = [plots.Series(name, list(one[DISTANCE + LAYERS].T)) for name, one in most.items()]
    far = float(most[CONV][DISTANCE].mean())
    panels = [
        plots.Curves(
            over_time,
            log="x",
            x_label="step",
            y_label="distance (positions)",
            references=[plots.Reference(y=far, label=CONV, color=plots.BLUE)],
            legend="",  # the other panel has the names
        ),
        plots.Curves(by_layer, ticks=["1", "2", "3"], x_label="layer"),
    ]
    return plots.Figure(panels)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network", "size", "trained", "subset"),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.005, 0.01, 0.02), "weight_decay": (0.01, 0.1)},
        points=tuning_points,
    ),
    pooled=True,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
