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

import dataclasses
import json
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from experiments import cli

if TYPE_CHECKING:
    from flax import linen as nn
    from matplotlib.figure import Figure

    from cnn.data import Dataset
    from cnn.train import Config, Result
    from experiments.report import Table

QUESTION = "What are locality and weight sharing worth?"
Point = tuple[str, str]
"""A rung and an order of the positions."""
PUBLISHED: dict[Point, float] = {
    ("conv", "ordered"): 0.94,
    ("mlp", "ordered"): 0.68,
    ("logistic", "ordered"): 0.32,
    ("conv", "permuted"): 0.56,
    ("mlp", "permuted"): 0.68,
    ("logistic", "permuted"): 0.32,
}
"""Test accuracy in Greydanus & Kobak (2024): Adam at 1e-2, batch 100, 6,000 steps, one seed."""


@dataclass(frozen=True, kw_only=True)
class Study:
    """What is kept on every rung."""

    steps: int = 2000
    """Optimizer steps of every run (the published protocol has 6,000)."""
    batch_size: int = 100
    """Examples per step."""
    lr: float = 2e-2
    """Largest learning rate of Adam."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate over the steps."""
    weight_decay: float = 0.0
    """Decoupled decay of the kernels."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds per rung; a seed has the same data order on every rung."""
    permute: bool = False
    """Run the permuted half of the study alone."""
    validate: bool = False
    """Train without the validation part and report on it: for choosing, instead of the test set."""
    out: Path = Path("results/ladder")
    """Folder for results.jsonl, ladder.png, ladder.svg and report.html."""


def rungs() -> dict[str, nn.Module]:
    """Return the models by name, from the strongest bias to none."""
    from cnn.layers import ConvLocal, ConvTiled, DenseSpatial
    from cnn.models import cnn1d, logistic, mlp

    return {
        "conv": cnn1d(),
        "tiled-2": cnn1d(layer=ConvTiled, period=2),
        "tiled-4": cnn1d(layer=ConvTiled, period=4),
        "local": cnn1d(layer=ConvLocal),
        "dense": cnn1d(layer=DenseSpatial),
        "mlp": mlp(),
        "logistic": logistic(),
    }


def orders(data: Dataset, permuted_alone: bool) -> dict[str, Dataset]:
    """Return the data as it is and with one fixed permutation of its positions."""
    from cnn.data import permutation, permute

    shuffled = permute(data, permutation(data.input_shape[0], seed=0))
    return {"permuted": shuffled} if permuted_alone else {"ordered": data, "permuted": shuffled}


def configs(study: Study) -> dict[Point, Config]:
    """Return every point of the study: a model, data, and one recipe for all."""
    from cnn.data import load
    from cnn.train import Config

    kept = dataclasses.asdict(study)
    del kept["permute"], kept["out"]
    data = orders(load("mnist1d"), study.permute)
    return {
        (rung, order): Config(model=model, data=arrays, **kept)
        for order, arrays in data.items()
        for rung, model in rungs().items()
    }


def train_all(points: dict[Point, Config], on_step: Callable[[int], None]) -> dict[Point, Result]:
    """Train every point, two at a time on a CPU: a step this small keeps one core busy."""
    import jax

    from cnn.train import fit

    with ThreadPoolExecutor(2 if jax.default_backend() == "cpu" else 1) as pool:
        try:
            runs = {point: pool.submit(fit, config, on_step) for point, config in points.items()}
            return {point: run.result() for point, run in runs.items()}
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise


def lines(points: dict[Point, Config], results: dict[Point, Result]) -> str:
    """Return one line of JSON for every point and seed; accuracies are fractions."""
    from cnn.recipe import identity
    from cnn.spec import to_spec

    rows: list[dict[str, Any]] = [
        {
            "rung": rung,
            "order": order,
            "seed": seed,
            "test_accuracy": float(result.test_accuracy[i]),
            "test_loss": float(result.test_loss[i]),
            "train_accuracy": float(result.train_accuracy[i]),
            "train_loss": float(result.train_loss[i]),
            "parameters": result.parameters,
            "steps": result.steps,
            "recipe": identity(points[rung, order]),
            "model": to_spec(points[rung, order].model),
        }
        for (rung, order), result in results.items()
        for i, seed in enumerate(result.seeds)
    ]
    return "".join(json.dumps(row) + "\n" for row in rows)


def table(study: Study, results: dict[Point, Result]) -> Table:
    """Return test accuracy in percent, mean ± standard deviation over seeds, by rung and order."""
    from experiments.report import Table, percent

    shown = list(dict.fromkeys(order for _, order in results))
    heads = ["rung", "parameters"]
    for order in shown:
        heads += [f"{order}, %", "published"]
    rows = []
    for rung in rungs():
        row = [rung, f"{results[rung, shown[0]].parameters:,}"]
        for order in shown:
            known = PUBLISHED.get((rung, order))
            row += [percent(results[rung, order].test_accuracy), f"{known:.0%}" if known else ""]
        rows.append(row)
    part = "Validation" if study.validate else "Test"
    caption = (
        f"{part} accuracy on MNIST-1D, mean ± standard deviation over {study.seeds} seeds, "
        f"{study.steps:,} steps"
    )
    return Table(caption, heads, rows)


def findings(results: dict[Point, Result]) -> list[str]:
    """Return what the numbers say, in points of test accuracy."""
    mean = {point: 100 * result.test_accuracy.mean() for point, result in results.items()}
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


def draw(study: Study, results: dict[Point, Result]) -> Figure:
    """Draw test accuracy against rung, every seed a dot, published values beside them."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.report import BLUE, COLUMN_WIDTH, GREY, ORANGE, STYLE

    looks = {"ordered": (BLUE, -0.22, "o"), "permuted": (ORANGE, 0.16, "s")}
    names = list(rungs())
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_WIDTH, 2.5))
        axes = figure.add_subplot()
        for order in dict.fromkeys(order for _, order in results):
            colour, shift, marker = looks[order]
            at = [i + shift for i in range(len(names))]
            scores = [100 * results[rung, order].test_accuracy for rung in names]
            for x, values in zip(at, scores, strict=True):
                beside = [x + 0.13] * len(values)
                axes.plot(beside, values, ".", ms=3.5, color=colour, alpha=0.6, mew=0)
            axes.errorbar(
                at,
                [values.mean() for values in scores],
                yerr=[values.std(ddof=1) if len(values) > 1 else 0.0 for values in scores],
                color=colour,
                fmt=marker,
                ms=3,
                mfc="white",
                capsize=2,
                lw=0.9,
                label=f"{order} (mean ± s.d. of {study.seeds})",
            )
            known = [
                (i + shift, 100 * PUBLISHED[name, order])
                for i, name in enumerate(names)
                if (name, order) in PUBLISHED
            ]
            axes.plot(*zip(*known, strict=True), "_", ms=11, mew=1.6, color=colour)
        axes.plot([], [], "_", ms=9, mew=1.6, color=GREY, label="published")
        axes.set_xticks(range(len(names)), names, rotation=30, ha="right", rotation_mode="anchor")
        axes.set_ylabel(f"{'validation' if study.validate else 'test'} accuracy (%)")
        axes.set_ylim(20, 100)
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        axes.legend(frameon=False, loc="lower left")
    return figure


def main(study: Study) -> None:
    """Run the study, print its table and leave its files in `study.out`."""
    began = time.perf_counter()
    from cnn.train.records import make_folder, write_whole
    from experiments.progress import show_steps
    from experiments.report import save_figure, write_report

    points = configs(study)
    for config in points.values():
        config.check()
    make_folder(study.out)
    with show_steps("ladder", study.steps * len(points)) as on_step:
        results = train_all(points, on_step)

    shown = table(study, results)
    shown.show()
    said = findings(results)
    print(*said, sep="\n")
    write_whole(study.out / "results.jsonl", lines(points, results))
    drawing = save_figure(draw(study, results), study.out / "ladder")
    seconds = time.perf_counter() - began
    write_report(study.out / "report.html", QUESTION, said, shown, drawing, seconds)
    print(f"{seconds:.0f} s; table, figure and report are in {study.out}")


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
