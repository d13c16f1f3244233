"""What does dilation give, and what does it cost?

    python -m experiments.dilation
    python -m experiments.dilation --full --lr 1e-2   # Fashion-MNIST

A network on MNIST-1D has four convolutions (window 3, stride 1, 16 channels) and then the mean over
positions, so it knows of an input what one unit of its last map sees. Dilation, the distance
between the positions that a window covers, widens that and adds no weights. The stacks are named by
the rates of their four layers:

    1, 1, 1, 1      no dilation: sees 9 samples
    1, 2, 4, 8      sees 31 of 31 samples, as does every order of these rates
    8, 4, 2, 1      reversed
    1, 8, 4, 2      the other layers reversed, after a first layer without dilation
    4, 1, 2, 8      starts as the next one does, but skips no sample
    4, 4, 4, 4      spans 33 samples and sees every fourth
    wide            windows of 3, 5, 9, 17 without dilation: sees 31 of 31, with 3.2 times the
                    parameters
    wide, narrow    the same with 9 channels, and about as many parameters as the dilated stacks

The effective receptive field, how strongly each input changes the central unit, is measured after
training: its standard deviation in samples (`cnn.probes.effective_receptive_field`, Luo et al.
2016). If all weights were equal, it would be that of a sum of uniform steps,
√(Σ r² (k² − 1) / 12) for windows k and rates r.

The learning rate of every stack is tuned.

Reference:
    Yu and Koltun 2016 propose rates that double, because the field then grows exponentially with
    depth. Wang et al. 2018, "Understanding convolution for semantic segmentation", call the inputs
    that equal rates skip the gridding problem.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table, number

with epy.lazy_imports():
    import jax
    import numpy as np

    from cnn import layers, probes

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.train import Config, Result

QUESTION = "What does dilation give, and what does it cost?"
HYPOTHESIS = (
    "the wide field of dilation is worth more than a point, and no worse than that of larger "
    "windows; skipped inputs cost more than a point; the order of the rates, which changes "
    "neither the field nor what it skips, makes no difference."
)
SHAPE, IMAGES = (40, 1), (28, 28, 1)
"""Of an example of MNIST-1D and of Fashion-MNIST."""
NONE, DOUBLING, REVERSED, LATER = "1, 1, 1, 1", "1, 2, 4, 8", "8, 4, 2, 1", "1, 8, 4, 2"
ALL, SKIPPING, WIDE, NARROW = "4, 1, 2, 8", "4, 4, 4, 4", "wide", "wide, narrow"
STACKS: dict[str, tuple[Sequence[int], Sequence[int]]] = {
    NONE: ((3, 3, 3, 3), (1, 1, 1, 1)),
    DOUBLING: ((3, 3, 3, 3), (1, 2, 4, 8)),
    REVERSED: ((3, 3, 3, 3), (8, 4, 2, 1)),
    LATER: ((3, 3, 3, 3), (1, 8, 4, 2)),
    ALL: ((3, 3, 3, 3), (4, 1, 2, 8)),
    SKIPPING: ((3, 3, 3, 3), (4, 4, 4, 4)),
    WIDE: ((3, 5, 9, 17), (1, 1, 1, 1)),
    NARROW: ((3, 5, 9, 17), (1, 1, 1, 1)),
}
"""Windows and rates of the four convolutions."""
CLAIMS = (
    study.Claim("a wide field by dilation helps", (DOUBLING,), (NONE,), above=0.01),
    study.Claim(
        "inputs that are skipped cost, at the same first rate", (ALL,), (SKIPPING,), above=0.01
    ),
    study.Claim("dilation is no worse than larger windows", (DOUBLING,), (WIDE,), above=-0.01),
    study.Claim(
        "dilation is no worse than larger windows with as many parameters",
        (DOUBLING,),
        (NARROW,),
        above=-0.01,
    ),
    study.Claim(
        "the order of the rates makes no difference",
        (REVERSED,),
        (DOUBLING,),
        above=-0.01,
        below=0.01,
    ),
    study.Claim(
        "the order makes no difference after a first layer without dilation",
        (LATER,),
        (DOUBLING,),
        above=-0.01,
        below=0.01,
    ),
)
CHANNELS, FEWER = 16, {1: 9, 2: 4}
"""Of every convolution; and in `NARROW`, by rank."""
LAST_MAP = "layers_7"
"""The layer, after its ReLU, whose effective field is measured."""
SPREAD = "spread of the field"
PROBED = 1000
"""Maximal number of test examples in the mean of the probe."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    stacks: tuple[str, ...] = tuple(STACKS)
    """Stacks of convolutions, by their rates."""
    steps: int = 700
    seeds: int = 10
    full: bool = False
    """Use Fashion-MNIST: half an hour per seed on two cores, half for "wide"; add --lr 1e-2."""
    out: Path = Path("results/dilation")


def network(stack: str, rank: int = 1) -> nn.Module:
    """Return one of `STACKS`, with zero padding that keeps the size. Raise `InputError`."""
    windows, rates = study.choose("stack", stack, STACKS)
    channels = FEWER[rank] if stack == NARROW else CHANNELS
    body = [
        part
        for k, r in zip(windows, rates, strict=True)
        for part in (
            layers.Conv(channels, (k,) * rank, padding=r * (k // 2), dilation=r),
            layers.ReLU(),
        )
    ]
    return layers.Chain((*body, layers.GlobalAvgPool(), layers.Dense(10, scale=1.0)))


def field(stack: str) -> tuple[int, int, float]:
    """Return span, number of inputs seen, and spread if all weights were equal, per axis."""
    windows, rates = STACKS[stack]
    seen = {0}
    for k, r in zip(windows, rates, strict=True):
        seen = {at + r * offset for at in seen for offset in range(-(k // 2), k // 2 + 1)}
    variance = sum(r**2 * (k**2 - 1) / 12 for k, r in zip(windows, rates, strict=True))
    return max(seen) - min(seen) + 1, len(seen), variance**0.5


def points(settings: Settings) -> Points:
    """Return a point per stack."""
    data = settings.load()
    rank = len(data.input_shape) - 1
    return {(s,): settings.config(network(s, rank), data) for s in settings.stacks}


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return the standard deviation of the effective receptive field along an axis, in samples."""
    test = (config.data.held_out() if config.validate else config.data).test
    x = jax.numpy.asarray(test.first(PROBED).x)
    *sizes, _ = config.data.input_shape
    offsets = [at - n // 2 for at, n in zip(np.indices(sizes), sizes, strict=True)]
    squared = np.square(offsets).mean(0)
    found = []
    for state in result.states:
        maps = probes.layer_functions(config.model, state.variables, config.data.input_shape)
        effective_field = jax.jit(probes.effective_receptive_field, static_argnums=0)
        strength = np.asarray(effective_field(maps[LAST_MAP], x))
        found.append(float(np.sqrt((strength * squared).sum() / strength.sum())))
    return {SPREAD: found}


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    ratios = [outcome[SPREAD].mean() / field(stack)[2] for (stack,), outcome in results.items()]
    findings = [
        f"Trained fields are {min(ratios):.2f} to {max(ratios):.2f} times as wide as fields of "
        "equal weights."
    ]
    return Summary(findings, [table(settings, results)], {"dilation": figure(settings, results)})


def table(settings: Settings, results: Results) -> Table:
    """Return costs, fields and accuracies, a row per stack."""
    shape, rows = IMAGES if settings.full else SHAPE, []
    costs = study.costs({s: network(s, len(shape) - 1) for (s,) in results}, shape)
    for (stack,), outcome in results.items():
        span, seen, even = field(stack)
        fields = [f"{seen} of {span}", number(outcome[SPREAD], 1), f"{even:.1f}"]
        accuracies = outcome["test_accuracy"], outcome["train_accuracy"]
        rows.append([stack, *costs[stack], *fields, *accuracies])
    heads = ["rates", "parameters", "MACs", "sees", "spread", "equal weights"]
    caption = f"Effective receptive field and accuracy on {settings.title}, {settings.protocol}"
    return Table(caption, [*heads, f"{settings.part}, %", "training, %"], rows)


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return accuracy, and the spread of the effective field, by stack."""
    stacks = [stack for (stack,) in results]
    labels = ["{}\nsees {} of {}".format(stack, *field(stack)[1::-1]) for stack in stacks]
    accuracy = [100 * results[stack,]["test_accuracy"] for stack in stacks]
    spread = plots.Series(
        "trained",
        [results[stack,][SPREAD] for stack in stacks],
        reference=[field(stack)[2] for stack in stacks],
    )
    unit = "pixels" if settings.full else "samples"
    dots = partial(plots.Dots, categories=labels, horizontal=True)
    panels = [
        dots([plots.Series("trained", accuracy)], x_label=f"{settings.part} accuracy (%)"),
        dots(
            [spread],
            x_label=f"s.d. of the effective field ({unit})",
            reference_label="equal weights",
        ),
    ]
    return plots.Figure(panels, height=3.0, share_y=True, legend="below")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("stack",),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.005, 0.01, 0.02, 0.04)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
