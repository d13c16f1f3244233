"""How much of its receptive field does a network use?

    python -m experiments.effective_field
    python -m experiments.effective_field --tune   # choose the rates again

Stacks of convolutions with stride 1 and circular padding, each with batch normalization and ReLU,
are trained on MNIST-1D. The logits are a dense layer on the mean over positions, so a network knows
of an input what one unit of its last map sees. A stack is named by layers and kernel size, and n
layers of size k see n (k − 1) + 1 samples:

    2x3, 4x3, 8x3, 16x3      small kernels; the field is 5, 9, 17 and 33 samples
    8x5, 4x9, 2x17, 1x33     fewer and larger kernels; the field is 33 samples

All have the channels with which they cost nearly the multiply-accumulates of 16x3 with 12 channels,
and so about as many weights. A digit of MNIST-1D is 7 to 10 samples long.

The effective field is the squared gradient of the central unit of the last map, summed over its
channels, in the mean over test signals. Its spread is its standard deviation. If weights are
independent with mean 0, and without nonlinearities, it is √(n (k² − 1) / 12): like √n at equal
kernels, and at an equal field the wider, the larger the kernels. It is measured before and after
training.

Reference:
    Luo et al. 2016, "Understanding the effective receptive field in deep convolutional neural
    networks": the effective field is Gaussian and a fraction of the field (from the abstract); it
    grows like √n, its share shrinks like 1/√n, and training widens it (from memory, not checked).
    Ding et al. 2022, "Scaling up your kernels to 31x31": networks with large kernels have much
    larger effective fields, and few large kernels can be better than many small ones (from the
    abstract).
    Brendel and Bethge 2019, "Approximating CNNs with bag-of-local-features models works
    surprisingly well on ImageNet": 87.6 % top-5 with fields of 33 pixels, and the accuracy of
    AlexNet with 17 (from the abstract).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, predictions, study
from experiments.harness.study import Claim, Points, Results, Summary, Table, number

with epy.lazy_imports():
    import jax
    import numpy as np
    import optax

    from cnn import geometry, layers, probes
    from cnn.train import state as train_state

if TYPE_CHECKING:
    from flax import linen as nn
    from jaxtyping import Array, Float

    from cnn.train import Config, Result

QUESTION = "How much of its receptive field does a network use?"
HYPOTHESIS = (
    "little, if it is a stack of small kernels: the spread of its effective field grows like the "
    "square root of the depth, and training widens it, but not to that of few large kernels, which "
    "are more accurate at the same field and cost; a field of 5 samples loses more than 10 points, "
    "one of 17 next to nothing."
)
SMALL, WIDE = 3, 33
"""The size of small kernels, and the field of stacks of small and large ones, in samples."""
REFERENCE, CHANNELS = (16, SMALL), 12
"""Layers and kernel size of the stack whose cost all have, and its channels."""
LENGTH = 40
"""Samples of a signal."""
SPREAD, START = "spread", "spread at the start"
"""Standard deviations in samples, after and before training."""
LOG = "log2 of the "
"""Prefix of the measures in which a factor of 2 is a difference of 1."""
FIELD, FIELD_START = "effective field", "effective field at the start"
"""Shares of the 40 samples, with the unit at sample 20."""
PROBED = 500
"""Test signals on which the effective field is measured."""
DEEP, LARGE, QUARTER = ("16x3",), ("2x17",), ("4x3",)
CLAIMS = (
    Claim(
        "at the start, four times the layers double the spread",
        *(DEEP, QUARTER),
        above=0.8,
        below=1.2,
        measure=LOG + START,
    ),
    Claim(
        "trained, the field of two large kernels is wider by more than 2 samples than that of 16 "
        "small ones",
        *(LARGE, DEEP),
        above=2.0,
        measure=SPREAD,
    ),
    Claim(
        "training widens the field of 16 small kernels by more than half a sample",
        *(DEEP, DEEP),
        above=0.5,
        measure=SPREAD,
        of_b=START,
    ),
    Claim(
        "trained, four times the layers widen the field less than 3 times",
        *(DEEP, QUARTER),
        below=1.58,
        measure=LOG + SPREAD,
    ),
    Claim("two large kernels are more accurate than 16 small ones", LARGE, DEEP, above=0.01),
    Claim("a field of 5 samples loses more than 10 points", LARGE, ("2x3",), above=0.1),
    Claim("a field of 17 samples loses less than a point", ("8x5",), ("8x3",), below=0.01),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    stacks: tuple[str, ...] = ("2x3", "4x3", "8x3", "16x3", "8x5", "4x9", "2x17", "1x33")
    """Layers and kernel sizes."""
    steps: int = 500
    seeds: int = 10
    out: Path = Path("results/effective_field")

    large: ClassVar[str] = ""


def sizes(stack: str) -> tuple[int, int]:
    """Return the number of layers and the kernel size. Raise `InputError`."""
    parts = stack.split("x")
    if len(parts) == 2 and all(map(str.isdecimal, parts)):
        n, k = map(int, parts)
        if n >= 1 and k >= 3 and k % 2 and n * (k - 1) + 1 < LENGTH:
            return n, k
    raise InputError(
        "stacks must be layers x kernel size, as in 4x9, the size odd and at least 3, and the "
        f"field smaller than {LENGTH} samples, got {stack!r}"
    )


def field(stack: str) -> tuple[int, float]:
    """Return the receptive field, and the spread for independent weights, in samples."""
    n, k = sizes(stack)
    return n * (k - 1) + 1, float(np.sqrt(n * (k**2 - 1) / 12))


def channels(n: int, k: int) -> int:
    """Return the channels with which n layers of size k cost nearly what `REFERENCE` costs."""

    def macs(n: int, k: int, c: int) -> int:
        return k * c + (n - 1) * k * c**2  # of the convolutions, per position

    target = macs(*REFERENCE, CHANNELS)
    return min(range(1, target), key=lambda c: abs(macs(n, k, c) - target))


def network(stack: str) -> nn.Module:
    """Return a stack of convolutions, with the mean over positions and a dense layer on it."""
    n, k = sizes(stack)
    circular: Any = {"padding": k // 2, "padding_mode": "circular"}
    conv = layers.Conv(channels(n, k), (k,), use_bias=False, **circular)
    body = (conv, layers.BatchNorm(), layers.ReLU()) * n
    return layers.Chain((*body, layers.GlobalAvgPool(), layers.Dense(10, scale=1.0)))


def points(settings: Settings) -> Points:
    """Return every stack on the same data. Raise `InputError`."""
    data = settings.load()
    return {(stack,): settings.config(network(stack), data) for stack in settings.stacks}


def effective_field(
    model: nn.Module, variables: Any, x: Float[Array, "batch samples 1"]
) -> Float[Array, " samples"]:
    """Return the share of each sample in the squared gradient of the last map's central unit.

    The sum of squares over the unit's channels is the mean square of a sum with random signs. Every
    signal has its own signs.
    """
    body = layers.Chain(model.layers[:-2])

    def with_signs(x: Array) -> Array:
        y: Any = body.apply(variables, x)
        return y * jax.random.rademacher(jax.random.key(0), (len(y), 1, y.shape[-1]), y.dtype)

    density = probes.effective_receptive_field(with_signs, x, power=2)
    return density / density.sum()


def measure(config: Config, result: Result) -> dict[str, list[float | np.ndarray]]:
    """Return the effective field and its spread, before and after training."""
    x, shape = predictions.sample(config.examples.test, PROBED).x, config.data.input_shape
    probe = jax.jit(effective_field, static_argnums=0)
    init = partial(train_state.init_state, config.model, optax.identity(), shape)
    start = jax.jit(lambda seed: init(seed).variables)
    found: dict[str, list[float | np.ndarray]] = {}
    for seed, state in zip(result.seeds, result.states, strict=True):
        for names, variables in (
            ((FIELD_START, START), start(seed)),
            ((FIELD, SPREAD), state.variables),
        ):
            density = np.asarray(probe(config.model, variables, x), float)
            (spread,) = geometry.spread(density)
            values = (density, spread, np.log2(spread))
            for name, value in zip((*names, LOG + names[1]), values, strict=True):
                found.setdefault(name, []).append(value)
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, table and figures."""
    stacks = sorted((stack for (stack,) in results), key=sizes)
    families = {
        f"field of {WIDE}": [s for s in stacks if field(s)[0] == WIDE],
        f"kernel size {SMALL}": [s for s in stacks if sizes(s)[1] == SMALL],
    }
    starts = [one[START].mean() / field(stack)[1] for (stack,), one in results.items()]
    growth = [(one[SPREAD] / one[START]).mean() for one in results.values()]
    finding = (
        f"At the start, effective fields are {min(starts):.2f} to {max(starts):.2f} times as wide "
        "as with independent weights and no nonlinearities; training makes them "
        f"{min(growth):.2f} to {max(growth):.2f} times as wide as that."
    )
    figures = {
        "effective_field": by_depth(settings, results, families),
        "effective_field_shape": shapes(results, families[f"field of {WIDE}"] or stacks),
    }
    return Summary([finding], [table(settings, results)], figures)


def table(settings: Settings, results: Results) -> Table:
    """Return costs, fields, spreads and accuracies, a row per stack."""
    costs = study.costs({stack: network(stack) for (stack,) in results}, (LENGTH, 1))
    rows = []
    for (stack,), one in results.items():
        size, expected = field(stack)
        spreads = (number(one[name], 2) for name in (START, SPREAD))
        accuracies = (one["test_accuracy"], one["train_accuracy"])
        counts = (channels(*sizes(stack)), *costs[stack], size)
        rows.append([stack, *counts, f"{expected:.2f}", *spreads, *accuracies])
    heads = ["stack", "channels", "parameters", "MACs", "field", "expected", "start", "trained"]
    caption = (
        "Spread of the effective field in samples, expected for independent weights and measured, "
        f"and accuracy on {settings.title}, {settings.protocol}"
    )
    return Table(caption, [*heads, f"{settings.part}, %", "training, %"], rows)


def by_depth(settings: Settings, results: Results, families: dict[str, list[str]]) -> plots.Figure:
    """Return spread and accuracy against the number of layers."""
    spreads, accuracies = list[plots.Series](), list[plots.Series]()
    for (name, stacks), color in zip(families.items(), (plots.ORANGE, plots.BLUE), strict=True):
        of, depths = [results[s,] for s in stacks], [sizes(s)[0] for s in stacks]
        series = partial(plots.Series, x=depths, color=color)
        expected = [field(s)[1] for s in stacks]
        start, trained = ([one[key] for one in of] for key in (START, SPREAD))
        spreads += [
            series(f"{name}, expected", expected, line=":", marker=""),
            series(f"{name}, start", start, line="--", marker="o", hollow=True),
            series(f"{name}, trained", trained, marker="o"),
        ]
        accuracy = [100 * one["test_accuracy"] for one in of]
        accuracies.append(series(f"{name}, trained", accuracy, marker="o"))
    ticks = [str(depth) for depth in accuracies[0].x]
    panels = [
        plots.Curves(series, ticks=ticks, log="x", x_label="layers", y_label=label)
        for series, label in (
            (spreads, "spread (samples)"),
            (accuracies, f"{settings.part} accuracy (%)"),
        )
    ]
    return plots.Figure(panels, height=3.0, legend="below")


def shapes(results: Results, stacks: Sequence[str]) -> plots.Figure:
    """Return the effective fields before and after training."""
    offsets = [at - LENGTH // 2 for at in range(LENGTH)]
    colors = (plots.SKY, plots.BLUE, plots.GREEN, plots.AMBER, plots.ORANGE)
    panels = []
    for name, title in ((FIELD_START, "start"), (FIELD, "trained")):
        series = [
            plots.Series(s, list(100 * results[s,][name].T), offsets, color=color, marker="")
            for s, color in zip(stacks, itertools.cycle(colors), strict=False)
        ]
        across, up = "distance from the unit (samples)", "squared gradient (%)"
        panels.append(
            plots.Curves(series, title=title, x_label=across, y_label=up, y_limits=(0, None))
        )
    return plots.Figure(panels, height=3.0, share_y=True, legend="below")


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("stack",),
    points,
    summarize,
    measure,
    claims=CLAIMS,
    tuning=study.Tuning(__file__, grid={"lr": (0.005, 0.01, 0.02), "weight_decay": (0.01, 0.1)}),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
