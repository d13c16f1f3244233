"""How much data is a bias worth?

    python -m experiments.sample_efficiency
    python -m experiments.sample_efficiency --tune   # choose the rates again

Four rungs of the ladder train on subsets of MNIST-1D, all for the same number of steps. Each seed
draws its own subset, the same for all rungs. So the intervals include the choice of the training
examples, and differences between rungs are paired over it.

Learning rate and weight decay are tuned for every rung and every size. The subsets that tune have
the same size (at most 3,600), and are validated on a tenth of the training set, which is not in
them.

Reference:
    Li, Zhang and Arora (2021), "Why are convolutional nets more sample-efficient than
    fully-connected nets?", prove for a constructed task that a fully connected network needs Ω(d²)
    examples in d dimensions, and a convolutional one O(1) (from memory, not checked).
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from cnn.errors import InputError
from experiments.harness import claims, cli, plots, rungs, study
from experiments.harness.study import Claim, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import data as datasets
    from cnn.data import split

if TYPE_CHECKING:
    from cnn.data import Dataset

QUESTION = "How much data are locality and weight sharing worth?"
HYPOTHESIS = (
    "the convolution is the better network from few examples to many, and needs at most half as "
    "many; the more examples there are, the less its biases are worth."
)
SHOWN = ("conv", "local", "dense", "mlp")
FEW, SOME, HALF, MOST = "125", "500", "2000", "4000"
CLAIMS = (
    Claim("with 125 examples, conv is better than dense", ("conv", FEW), ("dense", FEW), 0.01),
    Claim("with 4,000 examples, sharing helps", ("conv", MOST), ("local", MOST), 0.01),
    Claim("with 4,000 examples, locality helps", ("local", MOST), ("dense", MOST), 0.01),
    Claim("conv needs less than half the examples of dense", ("conv", HALF), ("dense", MOST), 0.0),
    Claim(
        "both biases are worth less with 4,000 examples than with 500",
        ("conv", MOST),
        ("dense", MOST),
        minus=(("conv", SOME), ("dense", SOME)),
        below=-0.01,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    sizes: tuple[int, ...] = (125, 250, 500, 1000, 2000, 4000)
    """Numbers of training examples, the classes in equal parts."""
    steps: int = 1000
    """Optimizer steps of every run, whatever its number of examples."""
    seeds: int = 10
    """Seeds per point. Each draws a subset of its own."""
    full: bool = False
    """Use Fashion-MNIST, whose rates are not tuned."""
    out: Path = Path("results/sample_efficiency")


def points(settings: Settings) -> Points:
    """Return every rung on every size and subset, each with one seed."""
    data = settings.load()
    return _on_subsets(settings, dict.fromkeys(settings.seed_range, data))


def tuning_points(settings: Settings) -> Points:
    """Return the points to tune on: each seed holds out another tenth of the training set.

    So there are validation examples at every size, also at that of the whole training set.
    """
    return _on_subsets(settings, held_out(settings.load(), settings.seed_range), validate=False)


def held_out(data: Dataset, seeds: Iterable[int]) -> dict[int, Dataset]:
    """Return the data by seed, each with another tenth of the training set as test set."""
    sets = {}
    for seed in seeds:
        rows = split.split_by_seed(data.train.y, seed, 0.1)
        kept, held = (data.train.take(part) for part in rows)
        sets[seed] = replace(data, train=kept, test=held)
    return sets


def subsets(sizes: Sequence[int], sets: Mapping[int, Dataset]) -> dict[tuple[str, str], Dataset]:
    """Return the subset of each size and seed, from the set of the seed.

    Raises:
        InputError: If there are no sizes, or one is below 1.
    """
    if not sizes or min(sizes) < 1:
        raise InputError(f"sizes must be numbers of examples from 1 on, got {tuple(sizes)}")
    return {
        (str(n), str(seed)): datasets.subset(data, min(n, len(data.train)), seed)
        for n in sizes
        for seed, data in sets.items()
    }


def _on_subsets(settings: Settings, sets: dict[int, Dataset], **changes: bool) -> Points:
    models, found = rungs.standard(next(iter(sets.values()))), subsets(settings.sizes, sets)
    return {
        (rung, n, seed): settings.config(models[rung], subset, seed=int(seed), seeds=1, **changes)
        for rung in SHOWN
        for (n, seed), subset in found.items()
    }


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    sizes = sorted(settings.sizes)
    errors = {rung: [1 - results[rung, str(n)]["test_accuracy"] for n in sizes] for rung in SHOWN}
    verdicts = compare(sizes, results)
    findings = [
        " ".join(examples_needed(sizes, errors["conv"], errors[rung], rung) for rung in SHOWN[1:]),
        f"{places_changed(verdicts)} ({len(verdicts)} pairs at {len(sizes)} sizes, at 95 % for all "
        "differences together.)",
    ]
    heads = [f"{n:,}" for n in sizes]
    caption = (
        f"{settings.part.capitalize()} error on {settings.title} in percent by training examples, "
        f"a subset for each seed, {settings.protocol}"
    )
    tables = [
        Table(caption, ["rung", *heads], [[rung, *values] for rung, values in errors.items()]),
        Table(
            f"Differences in {settings.part} accuracy in points by training examples; intervals at "
            "95 % for all together (Holm)",
            ["difference", *heads],
            [
                [f"{a} − {b}", *(v.interval.replace(" points", "") for v in of)]
                for (a, b), of in verdicts.items()
            ],
        ),
    ]
    panel = plots.Curves(
        [plots.Series(rung, [100 * v for v in values], sizes) for rung, values in errors.items()],
        ticks=heads,
        log="xy" if len(sizes) > 1 else "y",  # one size has no range
        x_label="training examples",
        y_label=f"{settings.part} error (%)",
    )
    return Summary(findings, tables, {"sample_efficiency": plots.Figure([panel], height=2.7)})


def compare(sizes: Sequence[int], results: Results) -> dict[tuple[str, str], list[claims.Verdict]]:
    """Return for each pair of rungs whether the first is better, at each size, by one procedure."""
    pairs = list(itertools.combinations(SHOWN, 2))
    better = [Claim(f"{n:,}", (a, str(n)), (b, str(n)), above=0.0) for a, b in pairs for n in sizes]
    verdicts = iter(claims.judge(better, results))
    return {pair: [next(verdicts) for _ in sizes] for pair in pairs}


def places_changed(verdicts: dict[tuple[str, str], list[claims.Verdict]]) -> str:
    """Return which rungs change places, and between which sizes, from the clear differences."""
    found = []
    for (a, b), of in verdicts.items():
        clear = [verdict for verdict in of if verdict.verdict != "cannot tell"]
        found += [
            f"{a} and {b} between {before.claim.text} and {after.claim.text} examples"
            for before, after in itertools.pairwise(clear)
            if before.verdict != after.verdict
        ]
    return (
        f"Rungs change places: {', '.join(found)}."
        if found
        else "No two rungs are seen to change places."
    )


def examples_needed(
    sizes: Sequence[int],
    errors: Sequence[np.ndarray],
    other: Sequence[np.ndarray],
    rung: str,
    needing: str = "conv",
) -> str:
    """Return how many examples `needing` needs for the error of `rung` with the most examples.

    Each seed is interpolated by itself. The number is the geometric mean over the seeds, or the
    median where some need fewer than the fewest, or more than the most.
    """
    curves = np.stack(errors, axis=1)  # a row per seed
    found = np.array([reach(sizes, *pair) for pair in zip(curves, other[-1], strict=True)])
    least, more = int((found == 0).sum()), int((found == np.inf).sum())
    if least or more:
        ends = [f"at most {sizes[0]:,} in {least}", f"more than {sizes[-1]:,} in {more}"]
        bounds = " and ".join(text for text, n in zip(ends, (least, more), strict=True) if n)
        needed = f"{bounds} of {len(found)} seeds"
        if sizes[0] < (median := float(np.median(found))) < sizes[-1]:
            needed = f"{median:,.0f} in the median ({needed})"
    else:
        mean, half = study.paired(np.log(found), np.zeros(len(found)))
        needed = f"{np.exp(mean):,.0f}"
        if len(found) > 1:
            needed += f" (95 % interval {np.exp(mean - half):,.0f} to {np.exp(mean + half):,.0f})"
    goal = f"the error of {rung} with {sizes[-1]:,} examples ({100 * other[-1].mean():.1f} %)"
    return f"For {goal}, {needing} needs {needed}."


def reach(sizes: Sequence[int], errors: np.ndarray, level: float) -> float:
    """Return the size at which errors first fall to `level`, on straight lines of their logarithms.

    It is 0 if the first is not above the level, and infinite if none falls so far.
    """
    above = np.log(errors) - np.log(level)
    if not (above <= 0).any():
        return float("inf")
    i = int(np.argmax(above <= 0))
    if i == 0:
        return 0.0
    share = above[i - 1] / (above[i - 1] - above[i])
    return float(sizes[i - 1] * (sizes[i] / sizes[i - 1]) ** share)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "size", "subset"),
    points,
    summarize,
    claims=CLAIMS,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.01, 0.02, 0.04), "weight_decay": (0.01, 0.1)},
        points=tuning_points,
    ),
    pooled=True,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
