"""Is it worth seeing far, or seeing all?

    python -m experiments.dilation
    python -m experiments.dilation --full --lr 1e-2   # Fashion-MNIST

A network on MNIST-1D has four convolutions (window 3, stride 1, 16 channels) and then the mean over
positions, so it knows of an input what one unit of its last map sees. Dilation, the distance
between the positions that a window covers, widens that at no cost. Rates of 1, 1, 1, 1 see 9
samples; rates of 1, 2, 4, 8 see 31, in this order or reversed; rates of 4, 4, 4, 4 span 33 but see
only every fourth. Windows of 3, 5, 9, 17 without dilation ("wide") see 31, too, with 3.2 times the
parameters, or with fewer channels and about as many ("wide, narrow").

The effective receptive field, how strongly each input changes the central unit, is measured after
training: its standard deviation in samples (`cnn.probes.effective_receptive_field`, Luo et al.
2016). If all weights were equal, it would be that of a sum of uniform steps,
√(Σ r² (k² − 1) / 12) for windows k and rates r.

The learning rate was chosen on the validation part, of 1e-2 and 2e-2, with one seed of three of the
networks.

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

QUESTION = "Is it worth seeing far, or seeing all?"
HYPOTHESIS = (
    "a wide field is worth more than the resolution of a narrow one, skipped inputs cost "
    "something, and dilation gives the width of larger windows with fewer parameters."
)
SHAPE, IMAGES = (40, 1), (28, 28, 1)
"""Of an example of MNIST-1D and of Fashion-MNIST."""
NARROW = "wide, narrow"
STACKS: dict[str, tuple[Sequence[int], Sequence[int]]] = {
    "1, 1, 1, 1": ((3, 3, 3, 3), (1, 1, 1, 1)),
    "2, 2, 2, 2": ((3, 3, 3, 3), (2, 2, 2, 2)),
    "4, 4, 4, 4": ((3, 3, 3, 3), (4, 4, 4, 4)),
    "1, 2, 4, 8": ((3, 3, 3, 3), (1, 2, 4, 8)),
    "8, 4, 2, 1": ((3, 3, 3, 3), (8, 4, 2, 1)),
    "wide": ((3, 5, 9, 17), (1, 1, 1, 1)),
    NARROW: ((3, 5, 9, 17), (1, 1, 1, 1)),
}
"""Windows and rates of the four convolutions."""
COMPARISONS = {
    ("1, 2, 4, 8", "1, 1, 1, 1"): "A wide field by doubling rates",
    ("wide", "1, 1, 1, 1"): "A wide field by large windows",
    ("2, 2, 2, 2", "1, 1, 1, 1"): "Skipping every second input",
    ("4, 4, 4, 4", "1, 1, 1, 1"): "Skipping three of four inputs",
    ("1, 2, 4, 8", "wide"): "Dilation instead of large windows",
    ("1, 2, 4, 8", NARROW): "Dilation instead of large windows with as many parameters",
    ("8, 4, 2, 1", "1, 2, 4, 8"): "Reversing the order of the rates",
}
"""What differs between two stacks."""
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
    steps: int = 1000
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
    accuracy = {stack: outcome["test_accuracy"] for (stack,), outcome in results.items()}
    findings = [
        f"{what} ({a} against {b}) changes {settings.part} accuracy by "
        f"{study.difference(accuracy[a], accuracy[b])}."
        for (a, b), what in COMPARISONS.items()
        if a in accuracy and b in accuracy
    ]
    pairs = [((a,), (b,)) for a, b in COMPARISONS]
    tables = [table(settings, results), study.differences(results, pairs)]
    return Summary(findings, tables, {"dilation": figure(settings, results)})


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
            legend="upper right",
        ),
    ]
    return plots.Figure(panels, share_y=True)


STUDY = study.Study(QUESTION, HYPOTHESIS, ("stack",), points, summarize, measure)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
