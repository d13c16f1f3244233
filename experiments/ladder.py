"""What are locality and weight sharing worth?

    python -m experiments.ladder            # ordered and permuted, seven rungs, five seeds each
    python -m experiments.ladder --permute  # the permuted half alone

One architecture climbs down the ladder of inductive bias while width, depth, optimizer, steps, data
order and the variance at initialisation stay as they are:

    conv            local, one kernel for all positions
    tiled-2, -4     local, position p uses kernel p mod 2 or 4
    local           local, a kernel for every position
    dense           every position sees every other: W[i, j] of the derivation
    mlp, logistic   no map of positions at all

The data is MNIST-1D (Greydanus & Kobak 2024, arXiv 2011.14439), 40 samples long, 4,000 for training
and 1,000 for testing, in order and with one fixed permutation of the positions: what a layer that
uses locality loses then is what locality was worth.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    from flax import linen as nn
    from matplotlib.figure import Figure

    from cnn.data import Dataset
    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "What are locality and weight sharing worth?"
HYPOTHESIS = (
    "test accuracy falls with each bias that is taken away, and on permuted positions, where the "
    "biases are wrong, it does not."
)
PUBLISHED: dict[Name, float] = {
    ("conv", "ordered"): 0.94,
    ("mlp", "ordered"): 0.68,
    ("logistic", "ordered"): 0.32,
    ("conv", "permuted"): 0.56,
    ("mlp", "permuted"): 0.68,
    ("logistic", "permuted"): 0.32,
}
"""Test accuracy in Greydanus & Kobak (2024): Adam at 1e-2, batch 100, 6,000 steps, one seed."""


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """What is kept on every rung. (The published protocol has 6,000 steps at 1e-2.)"""

    permute: bool = False
    """Run the permuted half of the study alone."""
    full: bool = False
    """Fashion-MNIST, into the folder full inside of out.

    About an hour of one core, estimated from steps of 0.1 s (dense) and 0.02 s (conv, local).
    """
    out: Path = Path("results/ladder")
    """Folder for results.jsonl, ladder.png, ladder.svg and report.html."""


def base(data: Dataset) -> nn.Module:
    """Return strided convolutions and a linear head, for signals or for images."""
    from cnn.layers import Chain, Conv, Dense, Flatten, ReLU
    from cnn.models import cnn1d

    if len(data.input_shape) == 2:
        return cnn1d(data.num_classes)
    convs = [part for _ in range(2) for part in (Conv(16, (3, 3), 2, padding=1), ReLU())]
    return Chain((*convs, Flatten(), Dense(data.num_classes, scale=1.0)))


def rungs(data: Dataset) -> dict[str, nn.Module]:
    """Return the models by name, from the strongest bias to none."""
    from cnn.ablations import densify, tile, unshare
    from cnn.models import logistic, mlp

    conv = base(data)
    return {
        "conv": conv,
        "tiled-2": tile(conv, 2),
        "tiled-4": tile(conv, 4),
        "local": unshare(conv),
        "dense": densify(conv),
        "mlp": mlp(),
        "logistic": logistic(),
    }


def orders(data: Dataset, permuted_alone: bool) -> dict[str, Dataset]:
    """Return the data as it is and with one fixed permutation of its positions."""
    from cnn.data import permutation, permute

    shuffled = permute(data, permutation(data.input_shape[:-1], seed=0))
    return {"permuted": shuffled} if permuted_alone else {"ordered": data, "permuted": shuffled}


def points(settings: Study) -> dict[Name, Config]:
    """Return every point of the study: a model, data, and one recipe for all."""
    from cnn.train import Config

    data = settings.data("mnist1d")
    return {
        (rung, order): Config(model=model, data=arrays, **settings.recipe())
        for order, arrays in orders(data, settings.permute).items()
        for rung, model in rungs(data).items()
    }


def table(settings: Study, results: Mapping[Name, Outcome]) -> Table:
    """Return test accuracy in percent, mean ± standard deviation over seeds, by rung and order."""
    from experiments.harness.report import Table, percent

    shown = list(dict.fromkeys(order for _, order in results))
    heads = ["rung", "parameters"]
    for order in shown:
        heads += [f"{order}, %", "published"]
    rows = []
    for rung in dict.fromkeys(rung for rung, _ in results):
        row = [rung, f"{results[rung, shown[0]].parameters:,}"]
        for order in shown:
            known = None if settings.full else PUBLISHED.get((rung, order))
            row += [percent(results[rung, order]["test_accuracy"]), f"{known:.0%}" if known else ""]
        rows.append(row)
    part = "Validation" if settings.validate else "Test"
    caption = (
        f"{part} accuracy on {settings.title('MNIST-1D')}, mean ± standard deviation over "
        f"{settings.seeds} seeds, {settings.steps:,} steps"
    )
    return Table(caption, heads, rows)


def findings(results: Mapping[Name, Outcome]) -> list[str]:
    """Return what the numbers say, in points of test accuracy."""
    mean = {point: 100 * result["test_accuracy"].mean() for point, result in results.items()}
    if ("conv", "ordered") not in mean:
        return []
    sharing = mean["conv", "ordered"] - mean["local", "ordered"]
    locality = mean["local", "ordered"] - mean["dense", "ordered"]
    moved = {r: mean[r, "permuted"] - mean[r, "ordered"] for r in ("conv", "local", "dense", "mlp")}
    return [
        f"With the positions in order, weight sharing is worth {sharing:.1f} points "
        f"(conv over local) and locality {locality:.1f} (local over dense).",
        "One fixed permutation of the positions moves test accuracy, in points: "
        + ", ".join(f"{rung} {points:+.1f}" for rung, points in moved.items())
        + ".",
    ]


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw test accuracy against rung, every seed a dot, published values beside them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import BLUE, COLUMN_WIDTH, GREY, ORANGE, STYLE, spread

    looks = {"ordered": (BLUE, -0.22, "o"), "permuted": (ORANGE, 0.16, "s")}
    names = list(dict.fromkeys(rung for rung, _ in results))
    published = {} if settings.full else PUBLISHED
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_WIDTH, 2.5))
        axes = figure.add_subplot()
        for order in dict.fromkeys(order for _, order in results):
            colour, shift, marker = looks[order]
            at = [i + shift for i in range(len(names))]
            scores = [100 * results[rung, order]["test_accuracy"] for rung in names]
            for x, values in zip(at, scores, strict=True):
                beside = [x + 0.13] * len(values)
                axes.plot(beside, values, ".", ms=3.5, color=colour, alpha=0.6, mew=0)
            axes.errorbar(
                at,
                *spread(scores),
                color=colour,
                fmt=marker,
                ms=3,
                mfc="white",
                capsize=2,
                lw=0.9,
                label=f"{order} (mean ± s.d. of {settings.seeds})",
            )
            known = [
                (i + shift, 100 * published[name, order])
                for i, name in enumerate(names)
                if (name, order) in published
            ]
            if known:
                axes.plot(*zip(*known, strict=True), "_", ms=11, mew=1.6, color=colour)
        if published:
            axes.plot([], [], "_", ms=9, mew=1.6, color=GREY, label="published")
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_ylabel(f"{'validation' if settings.validate else 'test'} accuracy (%)")
        axes.set_ylim(20, 100)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        axes.legend(frameon=False, loc="lower left")
    return figure


PAIRS = [("conv", "tiled-2"), ("conv", "local"), ("local", "dense"), ("dense", "mlp")]
"""Neighbours on the ladder."""


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    shown = dict.fromkeys(order for _, order in results)
    pairs = [((a, order), (b, order)) for order in shown for a, b in PAIRS]
    tables = [table(settings, results), study.differences(results, pairs)]
    return study.Story(findings(results), tables, {"ladder": draw(settings, results)})


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("rung", "order"), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
