"""One window of 5, or two of 3: what does the factorisation cost, and what does it say?

    python -m experiments.expressivity

On the 8×8 digits, a network with two 5×5 convolutions of 8 channels, behind one of 3×3, has each
replaced by two of 3×3 (`cnn.ablations.factorize`), with and without a ReLU between the two; one
more is as wide as it takes for as many parameters as the 5×5. Simonyan and Zisserman (2015, section
2.3) recommend the stack with the non-linearity: it sees as much, has 18 / 25 of the weights, and is
more discriminative.

Without the non-linearity the two are one linear map, whose kernel is the convolution of theirs:

    w[c, i, o] = Σ_m Σ_{a + b = c} u[a, i, m] v[b, m, o]

so one 5×5 can be all that the stack can, and the question is what it can that the stack cannot. The
dimension of the set of kernels within reach is the rank of the Jacobian of w with respect to u and
v, at random u and v. The two windows have (|u| + |v|) · C · m weights for C channels at the ends
and m between, of which m² change nothing (what mixes the m channels in u can be undone in v).

Measured: accuracy on digits in percent, mean ± standard deviation of 5 seeds, 500 steps (99 s on
two shared cores, jax 0.10.2); training accuracy is 100.00 for all:

    in two places           parameters     MACs    accuracy
    one 5×5                      3,626  132,928  93.0 ± 1.5
    two 3×3                      2,746  129,344  93.2 ± 0.6
    two 3×3, ReLU                2,746  129,344  94.1 ± 1.5
    two 3×3, ReLU, wider         3,412  163,008  92.9 ± 1.5
    one 3×3                      1,578   51,008  92.8 ± 0.8

No difference is beyond error: two 3×3 − one 5×5 is +0.2 points (95 % interval −1.4 to 1.7), with
ReLU +1.1 (−0.3 to 2.4), and the ReLU itself +0.9 (−0.8 to 2.6). Not even the window counts on
images this small: one 3×3 − one 5×5 is −0.2 (−2.3 to 1.9), so this data cannot say what larger
images would. MACs hardly fall with the parameters, because the first 3×3 runs on the wider map that
the second one needs.

The rank is as counted, min(5^r · C², 2 · 3^r · C · m − m²) for r axes, in all cases computed. On
one axis nothing is lost with as many channels between as at the ends: 80 of 80 dimensions for C =
4. On two axes it is 272 of 400 (17 of 25 for one channel), and 7 channels between instead of 4 make
it all: the stack then has more weights than the 5×5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "Are two windows of 3 worth one of 5?"
HYPOTHESIS = (
    "without the non-linearity the stack is a subset of the 5×5 and no better; with it, it is as "
    "good with fewer weights."
)
CHANNELS = 4
"""C, the channels at both ends where dimensions are computed."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """What is kept for all networks."""

    steps: int = 500
    """Optimizer steps of every run."""
    full: bool = False
    """Fashion-MNIST, into the folder full inside of out.

    About 40 minutes of one core, estimated from steps of 0.08 s and a minute of evaluation a seed.
    """
    out: Path = Path("results/expressivity")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def networks(shape: tuple[int, ...]) -> dict[str, nn.Module]:
    """Return the networks for images of `shape` by what stands in the two places."""
    from cnn.ablations import factorize, match, rewindow
    from cnn.layers import Chain, Conv, Dense, Flatten, MaxPool, ReLU

    body = [p for _ in range(2) for p in (Conv(8, (5, 5), padding=2), ReLU(), MaxPool((2, 2)))]
    stem = (Conv(8, (3, 3), padding=1), ReLU())
    five = Chain((*stem, *body, Flatten(), Dense(10, scale=1.0)))
    stack = factorize(five, ReLU())
    return {
        "one 5×5": five,
        "two 3×3": factorize(five),
        "two 3×3, ReLU": stack,
        "two 3×3, ReLU, wider": match(stack, five, shape).model,
        "one 3×3": rewindow(five, (3, 3)),
    }


def points(settings: Study) -> dict[Name, Config]:
    """Return a point per network."""
    from cnn.train import Config

    data, recipe = settings.data("digits"), settings.recipe()
    models = networks(data.input_shape)
    return {(name,): Config(model=m, data=data, **recipe) for name, m in models.items()}


def composed(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Return the kernel `(*window, c, o)` of `u`, `(*window, c, m)`, followed by `v`."""
    import numpy as np

    rank = u.ndim - 2
    sizes = [a + b - 1 for a, b in zip(u.shape[:rank], v.shape[:rank], strict=True)]
    w = np.zeros((*sizes, u.shape[-2], v.shape[-1]))
    for tap in np.ndindex(v.shape[:rank]):
        w[tuple(slice(t, t + n) for t, n in zip(tap, u.shape[:rank], strict=True))] += u @ v[tap]
    return w


def dimension(rank: int, channels: int, between: int) -> int:
    """Return the dimension of the kernels of two windows of 3 per axis, on `rank` axes.

    `channels` at both ends, `between` in the middle. w is linear in u and in v, so the columns of
    its Jacobian are the kernels made with one of them and each unit weight of the other.
    """
    import numpy as np

    rng = np.random.default_rng(0)
    window, out = [3] * rank, 5**rank * channels**2
    u = rng.standard_normal((*window, channels, between))
    v = rng.standard_normal((*window, between, channels))
    units = np.eye(u.size)
    columns = [composed(e.reshape(u.shape), v).reshape(out) for e in units]
    columns += [composed(u, e.reshape(v.shape)).reshape(out) for e in units]
    return int(np.linalg.matrix_rank(np.stack(columns, 1)))


def dimensions() -> dict[tuple[int, int], int]:
    """Return the dimension by number of axes, and channels between from 1 to 2 C."""
    between = range(1, 2 * CHANNELS + 1)
    return {(rank, m): dimension(rank, CHANNELS, m) for rank in (1, 2) for m in between}


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    reach = dimensions()
    all_of = {rank: 5**rank * CHANNELS**2 for rank in (1, 2)}
    mean = {name: 100 * outcome["test_accuracy"].mean() for (name,), outcome in results.items()}
    findings = [
        "Test accuracy in percent: " + ", ".join(f"{n} {m:.1f}" for n, m in mean.items()) + ".",
        f"Two linear windows of 3 with {CHANNELS} channels throughout reach "
        f"{reach[1, CHANNELS]} of {all_of[1]} dimensions on one axis, {reach[2, CHANNELS]} of "
        f"{all_of[2]} on two.",
    ]
    five = ("one 5×5",)
    pairs = [(name, five) for name in results if name != five]
    pairs.append((("two 3×3, ReLU",), ("two 3×3",)))
    tables = [table(settings, results), study.differences(results, pairs)]
    return study.Story(findings, tables, {"expressivity": draw(settings, results, reach)})


def costs(settings: Study) -> dict[str, tuple[int, int]]:
    """Return parameters and multiply-accumulates for one example, by network."""
    from cnn.geometry import describe

    shape = (28, 28, 1) if settings.full else (8, 8, 1)
    known = {name: describe(model, shape) for name, model in networks(shape).items()}
    return {name: (geometry.params, geometry.macs) for name, geometry in known.items()}


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return costs, and accuracies in percent, a row per network."""
    from experiments.harness.report import Table, percent

    rows = [
        [
            name,
            f"{p:,}",
            f"{m:,}",
            *(percent(results[name,][f"{k}_accuracy"]) for k in ("test", "train")),
        ]
        for name, (p, m) in costs(settings).items()
    ]
    part = "validation" if settings.validate else "test"
    caption = (
        f"Accuracy on {settings.title('digits')} in percent, mean ± standard deviation over "
        f"{settings.seeds} seeds, {settings.steps:,} steps"
    )
    return Table(
        caption, ["in two places", "parameters", "MACs", f"{part}, %", "training, %"], rows
    )


def draw(
    settings: Study, results: Mapping[Name, Outcome], reach: Mapping[tuple[int, int], int]
) -> Figure:
    """Draw accuracy by network, and the share of all kernels' dimensions that is reached."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import BLUE, COLUMN_WIDTH, STYLE, spread

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(2 * COLUMN_WIDTH, 2.5), layout="constrained")
        left, right = figure.subplots(1, 2)
        scores = [100 * results[name,]["test_accuracy"] for name in costs(settings)]
        means, deviations = spread(scores)
        left.errorbar(
            means,
            range(len(scores)),
            xerr=deviations,
            color=BLUE,
            fmt="o",
            ms=4,
            capsize=2,
        )
        labels = [f"{n}\n{p / 1e3:.1f} k, {m / 1e6:.2f} M" for n, (p, m) in costs(settings).items()]
        left.set_yticks(range(len(scores)), labels)
        left.set_ylim(len(scores) - 0.5, -0.5)
        part = "validation" if settings.validate else "test"
        left.set_xlabel(f"{part} accuracy (%), mean ± s.d. of {settings.seeds} seeds")
        left.set_title("two places (parameters, MACs)")
        shares(right, reach)
    return figure


def shares(axes: Axes, reach: Mapping[tuple[int, int], int]) -> None:
    """Draw the reached share of dimensions against channels between the two windows."""
    from experiments.harness.report import BLUE, GREY

    looks = (
        (1, GREY, "s--", "two of 3, in one of 5"),
        (2, BLUE, "o-", "two of 3×3, in one of 5×5"),
    )
    for rank, colour, line, label in looks:
        between = [m for r, m in reach if r == rank]
        shown = [100 * reach[rank, m] / (5**rank * CHANNELS**2) for m in between]
        axes.plot(between, shown, line, color=colour, ms=3.5, lw=1, label=label)
    axes.set_xlabel(f"channels between the two ({CHANNELS} at the ends)")
    axes.set_ylabel("dimensions reached (%)")
    axes.set_title("kernels of two linear windows")
    axes.set_ylim(0, 105)
    axes.grid(axis="y", lw=0.4, alpha=0.5)
    axes.legend(frameon=False, loc="lower right")


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("network",), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
