"""Is it worth seeing far, or seeing all?

    python -m experiments.dilation

A network on MNIST-1D, four convolutions (window 3, stride 1, 16 channels) below the mean over
positions, knows of an input what one unit of its last map sees. Dilation, the distance between the
taps of a window, widens that at no cost: rates of 1, 1, 1, 1 see 9 samples, rates of 1, 2, 4, 8
see 31, upwards or downwards, and rates of 4, 4, 4, 4 span 33 but see every fourth only. Windows of
3, 5, 9, 17 without holes ("wide") see 31, too, for 3.2 times the parameters, or with fewer channels
for as many ("wide, narrow").

Beside accuracy, a probe of what was learned: the standard deviation, in samples, of the effective
receptive field, which is how strongly each input moves the central unit
(`cnn.probes.effective_receptive_field`, Luo et al. 2016). Were all taps alike, it would be that of
a sum of uniform steps, √(Σ r² (k² − 1) / 12) for windows k and rates r.

Yu and Koltun (2016) propose rates that double, because the field then grows exponentially with
depth; Wang et al. (2018, "Understanding convolution for semantic segmentation") call what equal
rates leave out the gridding problem.

Measured: accuracy in percent and spread in samples, mean ± standard deviation of 5 seeds, 1,000
steps (305 s of one core, jax 0.10.2):

    rates         parameters   sees    spread, of equal taps     accuracy     training
    1, 1, 1, 1         2,586   9 of 9     1.9 ± 0.0      1.6   96.6 ± 0.6   98.7 ± 0.4
    2, 2, 2, 2         2,586   9 of 17    3.5 ± 0.1      3.3   95.3 ± 0.5   98.2 ± 0.6
    4, 4, 4, 4         2,586   9 of 33    7.3 ± 0.3      6.5   79.5 ± 0.8   86.0 ± 0.6
    1, 2, 4, 8         2,586  31 of 31    7.7 ± 0.2      7.5   96.4 ± 0.8   99.1 ± 0.5
    8, 4, 2, 1         2,586  31 of 31    7.1 ± 0.6      7.5   91.3 ± 0.7   97.2 ± 0.6
    wide               8,218  31 of 31    6.1 ± 0.1      5.8   96.5 ± 0.4   99.2 ± 0.4
    wide, narrow       2,674  31 of 31    6.1 ± 0.3      5.8   95.4 ± 1.2   97.8 ± 0.9

That a wide field is worth something does not hold here: 9 samples do as well as 31, seen by
doubling rates (−0.2 points, 95 % interval −1.5 to 1.0) or by large windows (−0.1, −0.7 to 0.5), so
the classes of MNIST-1D can be told by short pieces and how often they occur. Holes cost: 1.3 points
(0.7 to 1.9) at a rate of 2 and 17.1 (15.9 to 18.4) at 4, though the mean over positions, and the
units beside, see every sample. Dilation does buy the width: doubling rates are as good as windows
without holes of 3.2 times the weights (−0.1, −1.0 to 0.8), and no worse than those of as many
(+1.0, −0.4 to 2.4). The order of the rates matters as much as the holes: downwards, with the same
field and the same inputs, costs 5.1 points (4.1 to 6.0) against upwards, and fits the training set
less well, as does 4, 4, 4, 4. In both, the first layer compares samples that are not neighbours;
that it can no longer take noise and slopes apart is a guess, not measured. Learned fields are about
as wide as those of equal taps: training neither uses nor avoids the margin. The learning rate was
chosen on the validation part, of 1e-2 and 2e-2, with a seed of three of the networks.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    from flax import linen as nn
    from matplotlib.figure import Figure

    from cnn.train import Config, Result
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "Is it worth seeing far, or seeing all?"
HYPOTHESIS = (
    "a wide field is worth more than the resolution of a narrow one, holes cost something, and "
    "dilation buys the width that larger windows have with fewer parameters."
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
CHANNELS, FEWER = 16, {1: 9, 2: 4}
"""Of every convolution; and of the narrow ones, by rank: about as many weights as 16 by a 3."""
LAST_MAP = "layers_7"
"""The layer, after its ReLU, whose central unit is looked at."""
SPREAD = "spread of the field"
PROBED = 1000
"""Test examples that the probe takes the mean over, at most."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """Which stacks, and what is kept."""

    stacks: tuple[str, ...] = tuple(STACKS)
    """Rates of the four convolutions, or what stands in their place."""
    steps: int = 1000
    """Optimizer steps of every run."""
    full: bool = False
    """Fashion-MNIST, with square windows, into the folder full inside of out; take --lr 1e-2.

    Half an hour per seed on two cores, half of it for "wide", estimated from 50 steps.
    """
    out: Path = Path("results/dilation")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def network(stack: str, rank: int = 1) -> nn.Module:
    """Return one of `STACKS`, padded with zeros to maps of one size. Raises `InputError`."""
    from cnn.errors import unknown_name
    from cnn.layers import Chain, Conv, Dense, GlobalAvgPool, ReLU

    if stack not in STACKS:
        raise unknown_name("stack", stack, STACKS)
    channels = FEWER[rank] if stack == NARROW else CHANNELS
    layers = [
        part
        for k, r in zip(*STACKS[stack], strict=True)
        for part in (Conv(channels, (k,) * rank, padding=r * (k // 2), dilation=r), ReLU())
    ]
    return Chain((*layers, GlobalAvgPool(), Dense(10, scale=1.0)))


def field(stack: str) -> tuple[int, int, float]:
    """Return span, inputs within it that are seen, and spread if all taps were alike, per axis."""
    windows, rates = STACKS[stack]
    seen = {0}
    for k, r in zip(windows, rates, strict=True):
        seen = {at + r * tap for at in seen for tap in range(-(k // 2), k // 2 + 1)}
    variance = sum(r**2 * (k**2 - 1) / 12 for k, r in zip(windows, rates, strict=True))
    return max(seen) - min(seen) + 1, len(seen), variance**0.5


def points(settings: Study) -> dict[Name, Config]:
    """Return a point per stack."""
    from cnn.train import Config

    data, recipe = settings.data("mnist1d"), settings.recipe()
    rank = len(data.input_shape) - 1
    return {
        (name,): Config(model=network(name, rank), data=data, **recipe) for name in settings.stacks
    }


def measure(config: Config, result: Result) -> dict[str, list[float]]:
    """Return the standard deviation of the effective receptive field along an axis, in samples."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from cnn.probes import effective_receptive_field, layer_functions

    test = (config.data.held_out() if config.validate else config.data).test
    x = jnp.asarray(test.first(PROBED).x)
    *sizes, _ = config.data.input_shape
    squared = np.mean(
        [(at - n // 2) ** 2 for at, n in zip(np.indices(sizes), sizes, strict=True)], axis=0
    )
    found = []
    for state in result.states:
        last = layer_functions(config.model, state.variables, config.data.input_shape)[LAST_MAP]
        strength = np.asarray(jax.jit(effective_receptive_field, static_argnums=0)(last, x))
        found.append(float(np.sqrt((strength * squared).sum() / strength.sum())))
    return {SPREAD: found}


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    findings, unit = [], "pixels per axis" if settings.full else "samples"
    for (name,), outcome in results.items():
        span, seen, even = field(name)
        findings.append(
            f"{name}: {100 * outcome['test_accuracy'].mean():.1f} %, seeing {seen} of {span} "
            f"{unit}; learned spread {outcome[SPREAD].mean():.1f}, of equal taps {even:.1f}."
        )
    base = next(iter(results))
    doubling = ("1, 2, 4, 8",)
    pairs = [(name, base) for name in results if name != base]
    pairs += [(doubling, (name,)) for name in ("8, 4, 2, 1", "4, 4, 4, 4", "wide", "wide, narrow")]
    tables = [table(settings, results), study.differences(results, pairs)]
    return study.Story(findings, tables, {"dilation": draw(settings, results)})


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return costs, fields and accuracies, a row per stack."""
    from cnn.geometry import describe
    from experiments.harness.report import Table, number, percent

    shape, rows = IMAGES if settings.full else SHAPE, []
    for (name,), outcome in results.items():
        geometry = describe(network(name, len(shape) - 1), shape)
        span, seen, even = field(name)
        rows.append(
            [
                name,
                f"{geometry.params:,}",
                f"{geometry.macs:,}",
                f"{seen} of {span}",
                number(outcome[SPREAD], 1),
                f"{even:.1f}",
                *(percent(outcome[f"{part}_accuracy"]) for part in ("test", "train")),
            ]
        )
    part = "validation" if settings.validate else "test"
    caption = (
        f"{settings.title('MNIST-1D')}, mean ± standard deviation over {settings.seeds} seeds, "
        f"{settings.steps:,} steps"
    )
    heads = ["rates", "parameters", "MACs", "sees", "spread", "equal taps"]
    return Table(caption, [*heads, f"{part}, %", "training, %"], rows)


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw accuracy, and the spread of the effective field, by stack."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import BLUE, COLUMN_WIDTH, GREY, STYLE, spread

    part = "validation" if settings.validate else "test"
    names = [name for (name,) in results]
    panels = (
        ("test_accuracy", 100, f"{part} accuracy (%)"),
        (SPREAD, 1, f"s.d. of the effective field ({'pixels' if settings.full else 'samples'})"),
    )
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.4), layout="constrained")
        both = figure.subplots(1, 2, sharey=True)
        for axes, (value, unit, label) in zip(both, panels, strict=True):
            scores = [unit * results[name,][value] for name in names]
            means, deviations = spread(scores)
            axes.errorbar(
                means,
                range(len(scores)),
                xerr=deviations,
                color=BLUE,
                fmt="o",
                ms=4,
                capsize=2,
                label=f"trained, mean ± s.d. of {settings.seeds} seeds",
            )
            axes.set_xlabel(label)
            axes.grid(axis="x", lw=0.4, alpha=0.5)
        labels = ["{}\nsees {} of {}".format(name, *field(name)[1::-1]) for name in names]
        both[0].set_yticks(range(len(names)), labels)
        both[0].set_ylim(len(names) - 0.5, -0.5)
        even = [field(name)[2] for name in names]
        both[1].plot(even, range(len(names)), "|", color=GREY, ms=9, label="all taps alike")
        both[1].legend(frameon=False, loc="upper right")
    return figure


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("stack",), points, tell, measure)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
