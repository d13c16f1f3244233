"""How much order does a convolution need?

    python -m experiments.permutation

MNIST-1D is cut into blocks of equal length, and the blocks change places, in the same way for all
examples. One block of 40 is the data as it is; blocks of 1 are a permutation of all positions. No
two blocks that were neighbours stay neighbours, so exactly 40 / length − 1 of the 39 pairs of
neighbouring samples are broken; the order within a block does not change. Each seed has its own
permutation, the same for all rungs.

Reference:
    Greydanus and Kobak (2024), arXiv 2011.14439, report a test accuracy of 94 % for a convolutional
    network on the data in order and 56 % on permuted data, and 68 % for a fully connected network
    on both.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments import ladder
from experiments.harness import cli, plots, study
from experiments.harness.study import Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import data as datasets

if TYPE_CHECKING:
    Errors = Mapping[str, Sequence[np.ndarray]]  # by rung: for each block, the errors of the seeds

QUESTION = "How much order does a convolution need?"
HYPOTHESIS = (
    "the test error of the convolution grows with every neighbourhood that is broken, that of the "
    "network without a bias about space does not; training error stays low for all."
)
SHOWN = ("conv", "local", "mlp")


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    blocks: tuple[int, ...] = ()
    """Lengths of the blocks in samples, or sides in pixels. Default: every divisor of the size."""
    seeds: int = 3
    """Seeds per point. Each has its own permutation."""
    full: bool = False
    """Use square blocks of Fashion-MNIST: 15 minutes on two cores (estimated), 5 GB of memory."""
    out: Path = Path("results/permutation")


def unbroken_pairs(order: np.ndarray, sizes: Sequence[int]) -> int:
    """Return how many pairs of neighbours, along any axis, are still neighbours in `order`."""
    source = np.array(np.unravel_index(order.reshape(sizes), tuple(sizes)))  # (rank, *sizes)
    steps = np.eye(len(sizes), dtype=int).reshape(len(sizes), -1, *[1] * len(sizes))
    return sum(
        int((np.diff(source, axis=1 + axis) == step).all(0).sum())
        for axis, step in enumerate(steps)
    )


def permute_blocks(sizes: Sequence[int], block: int, seed: int) -> np.ndarray:
    """Return a permutation of blocks that leaves no two neighbouring blocks together.

    It is the first such one from `seed` on. (Two blocks alone would stay in place in every second
    permutation.) Raise `InputError` if `block` does not divide every size.
    """
    for s in itertools.count(seed, 1000):
        order = datasets.permutation(sizes, s, block)
        counts = [n // block for n in sizes]
        if not unbroken_pairs(datasets.permutation(counts, s), counts):
            break
    return order


def points(settings: Settings) -> Points:
    """Return every rung at every length of block and permutation, each with one seed."""
    data = settings.load()
    models = ladder.rungs(data)
    sizes = data.input_shape[:-1]
    longest = math.gcd(*sizes)
    blocks = settings.blocks or [n for n in range(longest, 0, -1) if longest % n == 0]
    permuted = {
        (block, seed): datasets.permute(data, permute_blocks(sizes, block, seed))
        for block in blocks
        for seed in settings.seed_range
    }
    return {
        (rung, str(block), str(seed)): settings.config(models[rung], shuffled, seed=seed, seeds=1)
        for rung in SHOWN
        for (block, seed), shuffled in permuted.items()
    }


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    by_block = study.pool_seeds(results)
    blocks = sorted({block for _, block in by_block}, key=int, reverse=True)
    test, training = (
        {rung: [1 - by_block[rung, block][part] for block in blocks] for rung in SHOWN}
        for part in ("test_accuracy", "train_accuracy")
    )
    pairs = [(("conv", block), (rung, block)) for rung in SHOWN[1:] for block in blocks]
    tables = [
        *(
            Table(
                f"{part.capitalize()} error on {settings.title} in percent by block, each seed "
                f"with its own permutation, {settings.protocol}",
                ["rung", *blocks],
                [[rung, *errors[rung]] for rung in SHOWN],
            )
            for part, errors in ((settings.part, test), ("training", training))
        ),
        study.differences(by_block, pairs),
    ]
    shown = {"permutation": figure(settings, blocks, test, training)}
    return Summary(findings(settings, blocks, test, training), tables, shown)


def findings(
    settings: Settings, blocks: Sequence[str], test: Errors, training: Errors
) -> list[str]:
    """Return for which blocks conv differs from mlp, and the errors with the outermost blocks."""
    gaps = [study.paired(*pair) for pair in zip(test["conv"], test["mlp"], strict=True)]
    lower, higher = (
        ", ".join(b for b, (mean, half) in zip(blocks, gaps, strict=True) if sign * mean > half)
        for sign in (-1, 1)
    )
    found = [
        f"The {settings.part} error of conv is lower than that of mlp with blocks of "
        f"{lower or 'no size'}, and higher with blocks of {higher or 'no size'} (where the 95 % "
        f"interval of the difference excludes zero)."
    ]
    for rung in SHOWN:
        test_ends, training_ends = (
            " to ".join(f"{100 * errors[rung][i].mean():.1f}" for i in (0, -1))
            for errors in (test, training)
        )
        found.append(
            f"From blocks of {blocks[0]} to blocks of {blocks[-1]}, the error of {rung} changes "
            f"from {test_ends} % ({settings.part}) and from {training_ends} % (training)."
        )
    return found


def figure(
    settings: Settings, blocks: Sequence[str], test: Errors, training: Errors
) -> plots.Figure:
    """Return test error and dashed training error against the length of the blocks."""
    series = [plots.Series(rung, [100 * e for e in test[rung]]) for rung in SHOWN]
    dashed = partial(plots.Series, line="--", marker="", legend=False)
    series += [dashed(f"{rung}, training", [100 * e for e in training[rung]]) for rung in SHOWN]
    what, unit = ("side", "pixels") if settings.full else ("length", "samples")
    panel = plots.Curves(
        series,
        ticks=blocks,
        x_label=f"{what} of the blocks that change places ({unit})",
        y_label=f"{settings.part} error (%); dashed: training",
    )
    return plots.Figure([panel], height=2.7)


STUDY = study.Study(QUESTION, HYPOTHESIS, ("rung", "block", "permutation"), points, summarize)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
