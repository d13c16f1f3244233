"""Are two windows of 3 worth one of 5?

    python -m experiments.expressivity

On the 8×8 digits, a network has one 3×3 and then two 5×5 convolutions of 8 channels. The study
replaces each 5×5 by two 3×3 (`cnn.ablations.factorize`), with and without a ReLU between them. One
more network is widened until it has as many parameters as the 5×5.

Without the ReLU, two kernels u and v are one linear map, with the kernel

    w[c, i, o] = Σ_m Σ_{a + b = c} u[a, i, m] v[b, m, o]

so one 5×5 can compute all that the pair can, and the question is which 5×5 kernels the pair can
compute. The dimension of that set is the rank of the Jacobian of w with respect to u and v, at
random u and v. The pair has |u| + |v| weights. With m channels between the two, m² of these
dimensions change nothing: a mixture of the channels in u can be undone in v. So on r axes, with C
channels at both ends, the count is min(5^r · C², 2 · 3^r · C · m − m²).

Reference:
    Simonyan and Zisserman (2015), section 2.3, recommend two 3×3 with a non-linearity: they see as
    much as a 5×5, have 18 / 25 of its weights, and are more discriminative.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import ablations, layers

if TYPE_CHECKING:
    from flax import linen as nn

QUESTION = "Are two windows of 3 worth one of 5?"
HYPOTHESIS = (
    "without the non-linearity the stack is a subset of the 5×5 and no better; with it, it is as "
    "good with fewer weights."
)
CHANNELS = 4
"""C, the channels at both ends where dimensions are computed."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    steps: int = 500
    full: bool = False
    """Use Fashion-MNIST: about 40 minutes of one core (estimated)."""
    out: Path = Path("results/expressivity")

    small: ClassVar[str] = "digits"


@functools.cache  # a width is searched
def networks(shape: tuple[int, ...]) -> dict[str, nn.Module]:
    """Return the networks for images of `shape`, by what the two places hold."""
    block = (layers.Conv(8, (5, 5), padding=2), layers.ReLU(), layers.MaxPool((2, 2)))
    stem = (layers.Conv(8, (3, 3), padding=1), layers.ReLU())
    head = (layers.Flatten(), layers.Dense(10, scale=1.0))
    five = layers.Chain((*stem, *block, *block, *head))
    pair = ablations.factorize(five, layers.ReLU())
    return {
        "one 5×5": five,
        "two 3×3": ablations.factorize(five),
        "two 3×3, ReLU": pair,
        "two 3×3, ReLU, wider": ablations.match(pair, five, shape).model,
        "one 3×3": ablations.rewindow(five, (3, 3)),
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
    shape = (28, 28, 1) if settings.full else (8, 8, 1)
    return study.costs(networks(shape), shape)


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    cost = costs(settings)
    reached = {
        rank: [kernel_dimension(rank, CHANNELS, m) for m in range(1, 2 * CHANNELS + 1)]
        for rank in (1, 2)
    }
    one, two, relu = (results[n,]["test_accuracy"] for n in ("one 5×5", "two 3×3", "two 3×3, ReLU"))
    line, plane = (f"{reached[r][CHANNELS - 1]} of {5**r * CHANNELS**2}" for r in (1, 2))
    findings = [
        f"Compared with one 5×5, two 3×3 with a ReLU between them change {settings.part} accuracy "
        f"by {study.difference(relu, one)}; two 3×3 without it, by {study.difference(two, one)}.",
        f"Without a ReLU and with {CHANNELS} channels throughout, the kernels of two windows of 3 "
        f"have {line} dimensions on one axis, {plane} on two.",
    ]
    rows = [
        [n, *cost[n], results[n,]["test_accuracy"], results[n,]["train_accuracy"]] for n in cost
    ]
    caption = f"Accuracy on {settings.title} in percent, {settings.protocol}"
    heads = ["in two places", "parameters", "MACs", f"{settings.part}, %", "training, %"]
    pairs = [((name,), ("one 5×5",)) for name in cost if name != "one 5×5"]
    pairs.append((("two 3×3, ReLU",), ("two 3×3",)))
    tables = [Table(caption, heads, rows), study.differences(results, pairs)]
    accuracies = plots.Dots(
        [plots.Series("", [100 * results[n,]["test_accuracy"] for n in cost], color=plots.BLUE)],
        [f"{n}\n{p / 1e3:.1f} k, {m / 1e6:.2f} M" for n, (p, m) in cost.items()],
        title="two places (parameters, MACs)",
        x_label=f"{settings.part} accuracy (%)",
        horizontal=True,
    )
    figure = plots.Figure([accuracies, dimension_panel(reached)], height=2.5)
    return Summary(findings, tables, {"expressivity": figure})


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


STUDY = study.Study(QUESTION, HYPOTHESIS, ("network",), points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
