"""Does locality or sharing set how fast the error falls with the number of examples?

    python -m experiments.learning_curves
    python -m experiments.learning_curves --tune   # choose the rates again
    python -m experiments.learning_curves --steps 2000 --out results/learning_curves_longer

MNIST-1D is generated, so there are as many signals as one asks for. Three rungs of the ladder train
on 1,500 to 96,000 of them: conv, local without sharing, and dense without locality, too. Each seed
draws signals of its own to train on and to test on, the same for all rungs. So the intervals cover
the choice of both, and differences between rungs are paired over it.

If the test error falls like N^-β, where N is the number of examples, it is a straight line over
log N. The exponent β of a seed is the slope of the least-squares line. A curve that is not a line
shows in the exponents from one size to the next.

Four times the examples get twice the steps: 500 steps are 33 passes over 1,500 signals, and 4,000
steps are 4 over 96,000. Where the training error is as large as the test error, the number of steps
or the network limits both, and not the number of examples. The third command, with rates that were
tuned for a quarter of the steps, shows what more steps change.

Reference:
    Favero, Cagnetta and Wyart 2021, "Locality defeats the curse of dimensionality in
    convolutional teacher-student scenarios": "locality is key in determining the learning curve
    exponent β [...], whereas translational invariance is not" (from the abstract). That is about
    kernel regression without a ridge. Here networks learn features, and the error is the share of
    wrong classes.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from etils import epy

from cnn.errors import InputError
from experiments.harness import cli, plots, rungs, study
from experiments.harness.counting import check_counts, powers
from experiments.harness.study import Claim, Name, Outcome, Points, Results, Summary, Table

with epy.lazy_imports():
    import numpy as np

    from cnn import data as datasets

if TYPE_CHECKING:
    from cnn.data import Dataset

QUESTION = "Does locality or sharing set how fast the error falls with the number of examples?"
HYPOTHESIS = (
    "locality does: the exponent of local is above that of dense by more than 0.2, and that of "
    "conv differs from it by less than 0.1; sharing lowers the error by a third at any number of "
    "examples."
)
CONV, LOCAL, DENSE = RUNGS = ("conv", "local", "dense")
FEWEST, TESTED = 1500, 20_000
"""Training examples with which `steps` is the number of steps, and test examples of each seed."""
ALL, LAST = "all sizes", "24000 to 96000"
"""What a line is fitted to."""
BETA, LOG_ERROR = "exponent", "log_error"
"""Of a line: β, and its height in the middle of the sizes, which is the mean of ln error."""


def lines(a: str, b: str, sizes: str = ALL) -> tuple[Name, Name]:
    """Return the names of the lines of two rungs."""
    return (a, sizes), (b, sizes)


CLAIMS = (
    Claim("locality raises the exponent by over 0.2", *lines(LOCAL, DENSE), 0.2, measure=BETA),
    Claim("sharing changes it by less than 0.1", *lines(CONV, LOCAL), -0.1, 0.1, measure=BETA),
    Claim(
        "from 24,000 examples on, locality raises it by over 0.2",
        *(*lines(LOCAL, DENSE, LAST), 0.2),
        measure=BETA,
    ),
    Claim(
        "from 24,000 examples on, sharing changes it by less than 0.2",
        *(*lines(CONV, LOCAL, LAST), -0.2, 0.2),
        measure=BETA,
    ),
    Claim(
        "sharing lowers the error by over a third, its logarithm by 0.4",
        *(*lines(LOCAL, CONV), 0.4),
        measure=LOG_ERROR,
    ),
)


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    """Settings of the study."""

    sizes: tuple[int, ...] = (1500, 6000, 24_000, 96_000)
    """Numbers of training examples, the classes in equal parts."""
    steps: int = 500
    """Optimizer steps with 1,500 examples. They grow with the square root of the examples."""
    seeds: int = 10
    """Seeds per point. Each generates signals of its own."""
    out: Path = Path("results/learning_curves")

    small: ClassVar[str] = "mnist1d"
    large: ClassVar[str] = ""

    @property
    def ascending(self) -> list[int]:
        """The sizes in order. Raise `InputError` for fewer than two."""
        check_counts(sizes=self.sizes)
        if len(found := sorted({*self.sizes})) < 2:
            raise InputError(f"sizes must be two or more, for a slope, got {self.sizes}")
        return found

    def steps_for(self, size: int) -> int:
        """Return the number of steps with this number of examples."""
        return max(1, round(self.steps * math.sqrt(size / FEWEST)))


def draw(settings: Settings, seed: int) -> dict[int, Dataset]:
    """Return the data of a seed by size. A smaller training set is part of a larger one."""
    sizes = settings.ascending
    train = datasets.mnist1d_signals(sizes[-1], 2 * seed)
    test = datasets.mnist1d_signals(TESTED, 2 * seed + 1)
    whole = replace(settings.load(), name="mnist1d, generated", train=train, test=test)
    return {size: datasets.subset(whole, size, seed) for size in sizes}


def points(settings: Settings) -> Points:
    """Return every rung on every number of examples and seed. Raise `InputError`."""
    sets = {seed: draw(settings, seed) for seed in settings.seed_range}
    models = rungs.ends(rungs.base(settings.load()))
    return {
        (rung, str(size), str(seed)): settings.config(
            models[rung],
            sets[seed][size],
            steps=settings.steps_for(size),
            batch_size=min(settings.batch_size, size),
            seed=seed,
            seeds=1,
        )
        for rung, size, seed in itertools.product(RUNGS, settings.ascending, sets)
    }


def points_to_tune(settings: Settings) -> Points:
    """Return the same on signals of the seeds that tune, of which those for testing validate."""
    return points(replace(settings, validate=False))


def errors(settings: Settings, results: Results, rung: str, part: str = "test") -> np.ndarray:
    """Return the errors of a rung, `(seeds, sizes)`.

    An error of 0 becomes half of a test example, so that it has a logarithm.
    """
    found = [results[rung, str(size)][f"{part}_accuracy"] for size in settings.ascending]
    return np.maximum(1 - np.stack(found, 1), 0.5 / TESTED)


def pairs(sizes: Sequence[int]) -> list[str]:
    """Return the names of two sizes each, one and the next: "1500 to 6000"."""
    return [f"{a} to {b}" for a, b in itertools.pairwise(sizes)]


def derive(settings: Settings, results: Results) -> dict[Name, Outcome]:
    """Return exponent and height of the line of each rung, to all sizes and to each two."""
    sizes, found = settings.ascending, dict[Name, Outcome]()
    parts = {ALL: slice(None), **{name: slice(i, i + 2) for i, name in enumerate(pairs(sizes))}}
    for rung, (name, part) in itertools.product(RUNGS, parts.items()):
        of = errors(settings, results, rung)[:, part]
        values = {BETA: -powers(sizes[part], of), LOG_ERROR: np.log(of).mean(1)}
        found[rung, name] = Outcome(results[rung, str(sizes[0])].parameters, values)
    return found


def summarize(settings: Settings, results: Results) -> Summary:
    """Return findings, tables and figure."""
    sizes = settings.ascending
    parts = ((settings.part, "test"), ("training", "train"))
    percents = [
        [f"{rung}, {name}", *errors(settings, results, rung, part).T]
        for rung, (name, part) in itertools.product(RUNGS, parts)
    ]
    fitted = (ALL, *pairs(sizes))
    exponents = [
        [rung, *(study.number(results[rung, to][BETA], 2) for to in fitted)] for rung in RUNGS
    ]
    spread = f"by training examples, mean ± standard deviation over {settings.seeds} seeds"
    steps = " to ".join(f"{settings.steps_for(size):,}" for size in (sizes[0], sizes[-1]))
    errors_of = f"Error on {settings.title} in percent {spread}, {steps} steps"
    tables = [
        Table(errors_of, ["rung, part", *(f"{size:,}" for size in sizes)], percents),
        Table(f"Exponent β {spread}", ["rung", *fitted], exponents),
    ]
    figures = {"learning_curves": figure(settings, results)}
    return Summary(findings(settings, results), tables, figures)


def findings(settings: Settings, results: Results) -> list[str]:
    """Return the exponents, and how many times one error is another."""
    exponents, ratios = [], []
    for rung in RUNGS:
        one = study.estimate(results, [((rung, ALL), 1)], BETA)
        exponents.append(f"{rung} {one.mean:.2f} ± {one.half():.2f}")
    for more, less in ((LOCAL, CONV), (DENSE, LOCAL)):
        pair = zip(lines(more, less), (1, -1), strict=True)
        one = study.estimate(results, list(pair), LOG_ERROR)
        low, high = (np.exp(one.mean + sign * one.half()) for sign in (-1, 1))
        ratios.append(f"{more} over {less} {np.exp(one.mean):.2f} ({low:.2f} to {high:.2f})")
    middle = np.exp(np.log(settings.ascending).mean())
    return [
        f"Exponents β (± half of the 95 % interval, each by itself): {', '.join(exponents)}.",
        f"Ratios of the fitted errors at {middle:,.0f} examples, the middle of the sizes (95 % "
        f"interval, each by itself): {', '.join(ratios)}.",
    ]


def figure(settings: Settings, results: Results) -> plots.Figure:
    """Return error against examples with the fitted lines, beside exponents between the sizes."""
    sizes = settings.ascending
    middles = [math.sqrt(a * b) for a, b in itertools.pairwise(sizes)]
    curves, exponents = [], []
    for rung in RUNGS:
        beta, height = (results[rung, ALL][name].mean() for name in (BETA, LOG_ERROR))
        line = 100 * np.exp(height - beta * (np.log(sizes) - np.log(sizes).mean()))
        measured = list(100 * errors(settings, results, rung).T)
        curves.append(plots.Series(f"{rung}, β = {beta:.2f}", measured, sizes, line=""))
        curves.append(plots.Series(rung, list(line), sizes, line="--", marker="", legend=False))
        between = [results[rung, pair][BETA] for pair in pairs(sizes)]
        exponents.append(plots.Series(rung, between, middles))
    left = plots.Curves(
        curves,
        ticks=[f"{size:,}" for size in sizes],
        log="xy",
        x_label="training examples",
        y_label=f"{settings.part} error (%)",
    )
    right = plots.Curves(
        exponents,
        ticks=[f"{middle:,.0f}" for middle in middles],
        log="x",
        x_label="training examples, between two sizes",
        y_label="exponent β",
        references=[plots.Reference(y=0)],
        legend="",
    )
    note = "left, dashed: least-squares lines; right: mean and standard deviation"
    return plots.Figure([left, right], note=note)


STUDY = study.Study(
    QUESTION,
    HYPOTHESIS,
    ("rung", "size", "draw"),
    points,
    summarize,
    claims=CLAIMS,
    derive=derive,
    tuning=study.Tuning(
        __file__,
        by=lambda name: name[:2],
        grid={"lr": (0.005, 0.01, 0.02), "weight_decay": (0.01, 0.1)},
        points=points_to_tune,
    ),
    pooled=True,
)

if __name__ == "__main__":
    cli.run(STUDY.run, Settings, __doc__)
