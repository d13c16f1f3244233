"""Are two windows of 3 worth one of 5?

    python -m experiments.expressivity

A network on MNIST-1D makes 16 channels of every sample (window 1), has two convolutions with
windows of 5 (stride 1, 16 channels), each with a ReLU, and then the mean over positions. So it
knows of a signal what pieces of 9 samples say. The study replaces both windows of 5 by

    one 3                   a window of 3 each: pieces of 5 samples
    two 3                   two windows of 3 each, which see what one of 5 sees
                            (`cnn.ablations.factorize`)
    two 3, ReLU             the same with a ReLU between the two
    two 3, ReLU, matched    with 13 channels between the two: as many parameters as windows of 5

If one window of 5 is no better than one of 3, the width of windows does not matter on this data,
and it cannot tell what pairs are worth. The study says so. Learning rate and weight decay of every
network are tuned.

Without the ReLU, two kernels u and v are one linear map, with the kernel

    w[c, i, o] = Σ_m Σ_{a + b = c} u[a, i, m] v[b, m, o]

so one window of 5 can compute all that the pair can, and the question is which of its kernels the
pair can compute. The dimension of that set is the rank of the Jacobian of w with respect to u and
v, at random u and v. With m channels between the two, m² of their dimensions change nothing: a
mixture of the channels in u can be undone in v. So on r axes, with C channels at both ends, the
count is min(5^r · C², 2 · 3^r · C · m − m²). With m = C, the pair has 6 / 5 of the weights of one
window on one axis, as here, and all of its dimensions; on two axes 18 / 25 of the weights, and 17 /
25 of the dimensions.

Reference:
    Simonyan and Zisserman (2015), section 2.3, recommend two 3×3 with a non-linearity: they see as
    much as a 5×5, have 18 / 25 of its weights, and are more discriminative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments.harness import claims, cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers

if TYPE_CHECKING:
    from flax import linen as nn

QUESTION = "Are two windows of 3 worth one of 5?"
HYPOTHESIS = (
    "without the non-linearity two windows of 3 are as good as one of 5, as they compute the same "
    "maps; the non-linearity is worth more than a point, also at equal parameters."
)
ONE, SMALL, PAIR = "one 5", "one 3", "two 3"
RELU, MATCHED = "two 3, ReLU", "two 3, ReLU, matched"
CLAIMS = (
    study.Claim(
        "a window of 5 is better than one of 3, otherwise the data cannot tell",
        (ONE,),
        (SMALL,),
        above=0.01,
    ),
    study.Claim(
        "without a ReLU, two of 3 are as good as one of 5",
        (PAIR,),
        (ONE,),
        above=-0.01,
        below=0.01,
    ),
    study.Claim("the ReLU between the two helps", (RELU,), (PAIR,), above=0.01),
    study.Claim(
        "with it, two of 3 are better than one of 5 at equal parameters",
        (MATCHED,),
        (ONE,),
        above=0.01,
    ),
)
WIDTH = 16
"""Channels of all maps but those between two windows of 3."""
CHANNELS = 4
"""C, the channels at both ends where dimensions are computed."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    steps: int = 700
    seeds: int = 10
    full: bool = False
    """Use Fashion-MNIST, with windows on two axes: many hours."""
    out: Path = Path("results/expressivity")


def networks(shape: tuple[int, ...]) -> dict[str, nn.Module]:
    """Return the networks for examples of `shape`, by what the two places hold."""
    rank, relu = len(shape) - 1, layers.ReLU()
    three, five = (3,) * rank, (5,) * rank

    def network(place: nn.Module) -> nn.Module:
        stem, head = layers.Conv(WIDTH, (1,) * rank), layers.Dense(10, scale=1.0)
        return layers.Chain((stem, relu, *(place, relu) * 2, layers.GlobalAvgPool(), head))

    one = network(layers.Conv(WIDTH, five, padding=2))
    # A channel between the two has a bias and 2 · 3^rank · WIDTH weights.
    between = round(5**rank * WIDTH**2 / (2 * 3**rank * WIDTH + 1))
    pair = (layers.Conv(between, three, padding=2), relu, layers.Conv(WIDTH, three))
    return {
        ONE: one,
        PAIR: ablations.factorize(one),
        RELU: ablations.factorize(one, relu),
        MATCHED: network(layers.Chain(pair)),
        SMALL: network(layers.Conv(WIDTH, three, padding=1)),
    }


def points(settings: Settings) -> Points:
    """Return a point per network."""
    data = settings.load()
    return {(name,): settings.config(m, data) for name, m in networks(data.input_shape).items()}


def compose_kernels(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the kernel `(*window, c, o)` of `u`, `(*window, c, m)`, followed by `v`."""
    rank = u.ndim - 2
    sizes = [a + b - 1 for a, b in zip(u.shape[:rank], v.shape[:rank], strict=True)]
    w = np.zeros((*sizes, u.shape[-2], v.shape[-1]))
    for b in np.ndindex(v.shape[:rank]):
        w[tuple(slice(i, i + n) for i, n in zip(b, u.shape[:rank], strict=True))] += u @ v[b]
    return w


def kernel_dimension(rank: int, channels: int, between: int) -> int:
    """Return the dimension of the set of kernels of two windows of 3 on `rank` axes.

    w is linear in u and in v. So the columns of its Jacobian are the kernels that one of them makes
    with each unit weight of the other.
    """
    rng = np.random.default_rng(0)
    window = [3] * rank
    u = rng.standard_normal((*window, channels, between))
    v = rng.standard_normal((*window, between, channels))
    units = np.eye(u.size)
    columns = [compose_kernels(unit.reshape(u.shape), v).ravel() for unit in units]
    columns += [compose_kernels(u, unit.reshape(v.shape)).ravel() for unit in units]
    return int(np.linalg.matrix_rank(np.stack(columns, 1)))


def costs(settings: Settings) -> dict[str, tuple[int, int]]:
    """Return parameters and multiply-accumulates for one example, by network."""
    shape = (28, 28, 1) if settings.full else (40, 1)
    return study.costs(networks(shape), shape)


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    cost = costs(settings)
    reached = {
        rank: [kernel_dimension(rank, CHANNELS, m) for m in range(1, 2 * CHANNELS + 1)]
        for rank in (1, 2)
    }
    line, plane = (f"{reached[r][CHANNELS - 1]} of {5**r * CHANNELS**2}" for r in (1, 2))
    findings = [
        f"Without a ReLU and with {CHANNELS} channels throughout, the kernels of two windows of 3 "
        f"have {line} dimensions on one axis, {plane} on two.",
    ]
    if not all(one.verdict == "holds" for one in claims.judge(CLAIMS, results)[:1]):
        findings.insert(
            0,
            "This data cannot tell what two windows of 3 are worth: it is not shown that a window "
            "of 5 is better than one of 3 on it.",
        )
    rows = [
        [n, *cost[n], results[n,]["test_accuracy"], results[n,]["train_accuracy"]] for n in cost
    ]
    caption = f"Accuracy on {settings.title} in percent, {settings.protocol}"
    heads = ["in two places", "parameters", "MACs", f"{settings.part}, %", "training, %"]
    accuracies = plots.Dots(
        [plots.Series("", [100 * results[n,]["test_accuracy"] for n in cost], color=plots.BLUE)],
        [f"{n}\n{p / 1e3:.1f} k, {m / 1e6:.2f} M" for n, (p, m) in cost.items()],
        title="two places (parameters, MACs)",
        x_label=f"{settings.part} accuracy (%)",
        horizontal=True,
    )
    figure = plots.Figure([accuracies, dimension_panel(reached)], height=2.5)
    return Summary(findings, [Table(caption, heads, rows)], {"expressivity": figure})


def dimension_panel(reached: Mapping[int, Sequence[int]]) -> plots.Curves:
    """Return the share of all dimensions that two windows reach, by the channels between them."""
    between = range(1, 2 * CHANNELS + 1)
    line, plane = ([100 * n / (5**r * CHANNELS**2) for n in reached[r]] for r in (1, 2))
    return plots.Curves(
        [
            plots.Series("two of 3, in one of 5", line, between, line="--", color=plots.GREY),
            plots.Series("two of 3×3, in one of 5×5", plane, between, color=plots.BLUE),
        ],
        title="kernels of two linear windows",
        x_label=f"channels between the two ({CHANNELS} at the ends)",
        y_label="dimensions reached (%)",
        y_limits=(0, 105),
        legend="lower right",
    )


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("network",),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__, grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.0, 0.01, 0.1)}
    ),
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
