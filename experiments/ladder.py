"""What are locality and weight sharing worth?

    python -m experiments.ladder            # ordered and permuted, seven rungs, five seeds each
    python -m experiments.ladder --permute  # only the permuted half

One architecture loses its inductive biases one after another. Width, depth, optimizer, steps, data
order and the variance at initialization stay the same:

    conv            local, one kernel for all positions
    tiled-2, -4     local, position p uses kernel p mod 2 or 4
    local           local, a kernel for every position
    dense           every output position sees every input position
    mlp, logistic   no map of positions at all

The data is MNIST-1D (Greydanus & Kobak 2024, arXiv 2011.14439): signals of 40 samples, 4,000 for
training and 1,000 for testing. They are used in order, and with one fixed permutation of the
positions, which makes locality useless: what a network loses then is what locality was worth.

All rungs have the same learning rate, chosen on the validation split by the accuracy of `conv`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments.harness import cli, plots, study
from experiments.harness.study import Name, Points, Results, Summary, Table

with epy.lazy_imports():
    from cnn import ablations, layers, models
    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset

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
PAIRS = [("conv", "tiled-2"), ("conv", "local"), ("local", "dense"), ("dense", "mlp")]
"""Neighbours on the ladder."""


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """The same on every rung. (The published protocol has 6,000 steps at 1e-2.)"""

    permute: bool = False
    """Run only the permuted half of the study."""
    full: bool = False
    """Use Fashion-MNIST: about an hour of one core (estimated)."""
    out: Path = Path("results/ladder")


def base(data: Dataset) -> nn.Module:
    """Return strided convolutions and a linear head, for signals or for images."""
    if len(data.input_shape) == 2:
        return models.cnn1d(data.num_classes)
    convs = [
        part for _ in range(2) for part in (layers.Conv(16, (3, 3), 2, padding=1), layers.ReLU())
    ]
    head = layers.Dense(data.num_classes, scale=1.0)
    return layers.Chain((*convs, layers.Flatten(), head))


def rungs(data: Dataset) -> dict[str, nn.Module]:
    """Return the models by name, from the strongest bias to none."""
    conv = base(data)
    return {
        "conv": conv,
        "tiled-2": ablations.tile(conv, 2),
        "tiled-4": ablations.tile(conv, 4),
        "local": ablations.unshare(conv),
        "dense": ablations.densify(conv),
        "mlp": models.mlp(),
        "logistic": models.logistic(),
    }


def orders(data: Dataset, only_permuted: bool) -> dict[str, Dataset]:
    """Return the data as it is, and with one fixed permutation of its positions."""
    order = datasets.permutation(data.input_shape[:-1], seed=0)
    shuffled = datasets.permute(data, order)
    return {"permuted": shuffled} if only_permuted else {"ordered": data, "permuted": shuffled}


def points(settings: Settings) -> Points:
    """Return every point of the study: a model and data, with the same recipe for all."""
    data = settings.load()
    return {
        (rung, order): settings.config(model, arrays)
        for order, arrays in orders(data, settings.permute).items()
        for rung, model in rungs(data).items()
    }


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    shown = dict.fromkeys(order for _, order in results)
    pairs = [((a, order), (b, order)) for order in shown for a, b in PAIRS]
    tables = [accuracies(settings, results), study.differences(results, pairs)]
    return Summary(findings(results), tables, {"ladder": figure(settings, results)})


def findings(results: Results) -> list[str]:
    """Return what the numbers say, in points of test accuracy."""
    mean = {point: 100 * outcome["test_accuracy"].mean() for point, outcome in results.items()}
    if ("conv", "ordered") not in mean:
        return []
    sharing = mean["conv", "ordered"] - mean["local", "ordered"]
    locality = mean["local", "ordered"] - mean["dense", "ordered"]
    moved = {r: mean[r, "permuted"] - mean[r, "ordered"] for r in ("conv", "local", "dense", "mlp")}
    return [
        f"With the positions in order, weight sharing is worth {sharing:.1f} points "
        f"(conv over local) and locality {locality:.1f} (local over dense).",
        "One fixed permutation of the positions changes test accuracy by, in points: "
        + ", ".join(f"{rung} {points:+.1f}" for rung, points in moved.items())
        + ".",
    ]


def accuracies(settings: Settings, results: Results) -> Table:
    """Return test accuracy in percent beside the published one, a row per rung."""
    shown = list(dict.fromkeys(order for _, order in results))
    heads = ["rung", "parameters"]
    for order in shown:
        heads += [f"{order}, %", "published"]
    rows = []
    for rung in dict.fromkeys(rung for rung, _ in results):
        row = [rung, results[rung, shown[0]].parameters]
        for order in shown:
            known = None if settings.full else PUBLISHED.get((rung, order))
            row += [results[rung, order]["test_accuracy"], f"{known:.0%}" if known else ""]
        rows.append(row)
    caption = f"{settings.part.capitalize()} accuracy on {settings.title}, {settings.protocol}"
    return Table(caption, heads, rows)


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return test accuracy by rung, with a dot for every seed and the published values."""
    names = list(dict.fromkeys(rung for rung, _ in results))
    colors = {"ordered": plots.BLUE, "permuted": plots.ORANGE}
    published = {} if settings.full else {name: 100 * v for name, v in PUBLISHED.items()}
    series = [
        plots.Series(
            order,
            [100 * results[rung, order]["test_accuracy"] for rung in names],
            color=colors[order],
            reference=[published.get((rung, order)) for rung in names],
        )
        for order in dict.fromkeys(order for _, order in results)
    ]
    panel = plots.Dots(
        series,
        names,
        y_label=f"{settings.part} accuracy (%)",
        y_limits=(20, 100),
        seeds=True,
        legend="lower left",
    )
    return plots.Figure([panel])


STUDY = study.Study(QUESTION, HYPOTHESIS, ("rung", "order"), points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
