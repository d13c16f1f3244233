"""How much of a bias survives when only some neighbourhoods are broken?

    python -m experiments.permutation

MNIST-1D is cut into blocks of equal length and the blocks change places, in the same way for all
examples. One block of 40 is the data as it is; blocks of 1 are a permutation of all positions.
Every two blocks that were neighbours are parted, so exactly 40 / length − 1 of the 39 pairs of
neighbouring samples are broken; within a block all is as it was. A seed has a permutation of its
own, the same for all rungs. Greydanus and Kobak (2024, arXiv 2011.14439) report a test accuracy of
94 and 56 % for a convolutional network on the data in order and permuted, 68 and 68 for a fully
connected one.

Measured: test error in percent by length of block, mean ± standard deviation of 3 seeds and
permutations, 2,000 steps (4.5 minutes on two shared cores, jax 0.10.2):

    length  broken        conv       local         mlp
        40       0   5.8 ± 0.6  12.9 ± 0.1  33.3 ± 1.3
        20       1  12.7 ± 2.2  13.2 ± 1.5  33.8 ± 1.3
        10       3  19.9 ± 3.0  17.5 ± 1.8  34.0 ± 0.8
         8       4  17.5 ± 0.4  19.1 ± 1.5  33.8 ± 1.0
         5       7  29.6 ± 1.4  19.4 ± 1.5  32.9 ± 0.3
         4       9  26.0 ± 2.4  26.0 ± 1.1  32.5 ± 1.4
         2      19  34.9 ± 1.3  28.9 ± 1.8  33.3 ± 0.7
         1      39  42.6 ± 1.1  32.3 ± 1.7  34.7 ± 0.4

One cut in the middle already costs the convolution as much as sharing was worth: 12.7 % error, no
better than local's 13.2. Where all positions are permuted it is worse than the network without a
bias, by 7.9 points (95 % interval 4.2 to 11.6), and than local by 10.3 (3.7 to 16.8). Local suffers
half as much: it has no sharing to lose. The control holds: the fully connected network stays
between 32.5 and 34.7. Training error is below 0.1 % but for the convolution's, which is 1.4 % at
most.

Fashion-MNIST hardly minds (`--full --seeds 1`, 309 s): with all pixels permuted the convolution
errs in 15.8 % in place of 13.0, local in 12.9 in place of 11.1, and the fully connected network in
13.7 in place of 13.6. There the convolution has no lead that it could lose: local, with 15 times
its weights, is ahead in order, too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from math import gcd, prod
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli, study

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

    from cnn.train import Config
    from experiments.harness.report import Table
    from experiments.harness.study import Name, Outcome, Story

QUESTION = "How much order does a convolution need?"
HYPOTHESIS = (
    "the test error of the convolution grows with every neighbourhood that is broken, that of the "
    "network without a bias about space does not; training error stays low for all."
)
SHOWN = ("conv", "local", "mlp")


@dataclass(frozen=True, kw_only=True)
class Study(study.Full):
    """How long the blocks are, and what is kept."""

    blocks: tuple[int, ...] = ()
    """Lengths of the blocks in samples, or sides in pixels; every divisor of the size if none."""
    seeds: int = 3
    """Seeds per point; each has a permutation of its own."""
    full: bool = False
    """Fashion-MNIST in square blocks, into the folder full inside of out.

    A quarter of an hour on two cores, estimated from one seed's 309 s; 5 GB of memory.
    """
    out: Path = Path("results/permutation")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""


def kept(order: np.ndarray, sizes: Sequence[int]) -> int:
    """Return how many pairs of neighbours, along any axis, are the neighbours they were."""
    import numpy as np

    to = np.array(np.unravel_index(order.reshape(sizes), tuple(sizes)))  # (rank, *sizes)
    steps = np.eye(len(sizes), dtype=int).reshape(len(sizes), -1, *[1] * len(sizes))
    return sum(
        int((np.diff(to, axis=1 + axis) == step).all(0).sum()) for axis, step in enumerate(steps)
    )


def inside(sizes: Sequence[int], block: int) -> int:
    """Return how many pairs of neighbours lie within one block, whose side divides the sizes."""
    return sum(prod(sizes) // n * (n - n // block) for n in sizes)


def parted(sizes: Sequence[int], block: int, seed: int) -> np.ndarray:
    """Return the first permutation from `seed` on that leaves no two blocks together.

    Drawn blindly, two blocks would stay as they are every second time. Raises `InputError` where
    the block does not divide every size.
    """
    from cnn.data import permutation

    orders = (permutation(sizes, s, block) for s in count(seed, 1000))
    return next(order for order in orders if kept(order, sizes) == inside(sizes, block))


def points(settings: Study) -> dict[Name, Config]:
    """Return every rung at every length of block and permutation, a seed each."""
    from cnn.data import permute
    from cnn.train import Config
    from experiments.ladder import rungs

    data, recipe = settings.data("mnist1d"), settings.recipe()
    seeds = range(settings.seed, settings.seed + settings.seeds)
    sizes = data.input_shape[:-1]
    most = gcd(*sizes)
    blocks = settings.blocks or [n for n in range(most, 0, -1) if most % n == 0]
    moved = {(b, s): permute(data, parted(sizes, b, s)) for b in blocks for s in seeds}
    return {
        (rung, str(block), str(seed)): Config(
            model=rungs(data)[rung], data=shuffled, **recipe | {"seed": seed, "seeds": 1}
        )
        for rung in SHOWN
        for (block, seed), shuffled in moved.items()
    }


def tell(settings: Study, results: Mapping[Name, Outcome]) -> Story:
    """Return what the study shows."""
    from experiments.sample_efficiency import pooled

    by_block = pooled(results)
    blocks = lengths(by_block)
    ends = max(blocks), min(blocks)
    findings = []
    for rung in SHOWN:
        test, train = (
            [100 - 100 * by_block[rung, str(b)][part].mean() for b in ends]
            for part in ("test_accuracy", "train_accuracy")
        )
        findings.append(
            f"From blocks of {ends[0]} to blocks of {ends[1]}, {rung} goes from {test[0]:.1f} to "
            f"{test[1]:.1f} % test error, and from {train[0]:.1f} to {train[1]:.1f} in training."
        )
    pairs = [(("conv", str(b)), (rung, str(b))) for rung in SHOWN[1:] for b in blocks]
    tables = [
        *(table(settings, by_block, part) for part in ("test", "train")),
        study.differences(by_block, pairs),
    ]
    return study.Story(findings, tables, {"permutation": draw(settings, by_block)})


def lengths(by_block: Mapping[Name, Outcome]) -> list[int]:
    """Return the lengths of the blocks, in the order in which they were asked for."""
    return list(dict.fromkeys(int(block) for _, block in by_block))


def table(settings: Study, results: Mapping[Name, Outcome], part: str) -> Table:
    """Return the error in percent, a row per rung, a column per length of block."""
    from experiments.harness.report import Table, percent

    blocks = lengths(results)
    rows = [
        [rung, *(percent(1 - results[rung, str(b)][f"{part}_accuracy"]) for b in blocks)]
        for rung in SHOWN
    ]
    caption = (
        f"{named(settings, part).capitalize()} error on {settings.title('MNIST-1D')} in percent by "
        f"{'side' if settings.full else 'length'} of block, mean ± standard deviation over "
        f"{settings.seeds} seeds and permutations, {settings.steps:,} steps"
    )
    return Table(caption, ["rung", *map(str, blocks)], rows)


def named(settings: Study, part: str) -> str:
    """Return what to call a part of the data."""
    return "training" if part == "train" else "validation" if settings.validate else "test"


def draw(settings: Study, results: Mapping[Name, Outcome]) -> Figure:
    """Draw test error, and dashed training error, against the length of the blocks."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, RUNGS, STYLE, spread

    test, blocks = named(settings, "test"), lengths(results)
    at = range(len(blocks))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_WIDTH, 2.7), layout="constrained")
        axes = figure.add_subplot()
        for rung, marker in zip(SHOWN, "o^D", strict=True):
            for part, line in (("test", "-"), ("train", "--")):
                found = [results[rung, str(b)][f"{part}_accuracy"] for b in blocks]
                axes.errorbar(
                    at,
                    *spread([100 * (1 - accuracy) for accuracy in found]),
                    color=RUNGS[rung],
                    fmt=f"{marker}{line}",
                    ms=3.5 if part == "test" else 2,
                    lw=1,
                    capsize=2,
                    label=rung if part == "test" else None,
                )
        axes.set_xticks(at, map(str, blocks))
        what, unit = ("side", "pixels") if settings.full else ("length", "samples")
        axes.set_xlabel(f"{what} of the blocks that change places ({unit})")
        axes.set_ylabel(f"{test} error (%); dashed: training")
        axes.grid(axis="y", lw=0.4, alpha=0.5)
        title = f"mean ± s.d. of {settings.seeds} seeds"
        figure.legend(frameon=False, title=title, loc="outside lower center", ncols=3)
    return figure


def main(settings: Study) -> None:
    """Run the study."""
    study.main(settings, QUESTION, HYPOTHESIS, ("rung", "block", "permutation"), points, tell)


if __name__ == "__main__":
    cli.run(main, Study, __doc__)
