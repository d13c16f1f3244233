"""The harness of a study: train the missing points, keep each result, summarize.

A study is a program beside this package: a question, a hypothesis, a frozen dataclass of settings,
and a function from settings to points (a `Config` by name). `comparison` makes a table, findings
and a figure of them; a function from results to a `Summary` of the study's own takes its place.

    STUDY = study.Study(QUESTION, HYPOTHESIS, ("rung", "order"), points)

Every point and seed is a line of `results.jsonl`. Its key is the hash of what decides it: model,
data, recipe and seed. A line that exists is not computed again, so an interrupted study continues
when it is started again, and one with more seeds runs only the new seeds.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Generic, TypeVar

from etils import epy

from cnn.errors import InputError, unknown_name
from experiments.harness import (
    claims,
    comparison,
    plots,
    predictions,
    results,
    runtime,
    summary,
    tuning,
)
from experiments.harness.claims import Claim
from experiments.harness.differences import difference, differences, estimate, paired
from experiments.harness.outcomes import failure, outcomes, selected, train_missing
from experiments.harness.results import Measure, Name, Outcome, Points, Results, pool_seeds
from experiments.harness.settings import LR, Settings, reduced
from experiments.harness.summary import Summary
from experiments.harness.tables import Table, in_notebook, number, percent
from experiments.harness.tuning import Tuning

with epy.lazy_imports():
    from cnn import geometry
    from cnn.train import mirror, run_dir

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config

__all__ = ["LR", "Claim", "Measure", "Name", "Outcome", "Points", "Results", "Settings", "Study"]
__all__ += ["Summary", "Table", "Tuning", "choose", "costs", "difference", "differences"]
__all__ += ["estimate", "failure", "number", "outcomes", "paired", "percent", "pool_seeds"]
__all__ += ["reduced", "train_missing"]

S = TypeVar("S", bound=Settings)
K = TypeVar("K")
V = TypeVar("V")


def choose(kind: str, name: str, known: Mapping[str, V]) -> V:
    """Return the value of `name`. Raise `InputError` if there is none."""
    if name not in known:
        raise unknown_name(kind, name, known)
    return known[name]


def costs(models: Mapping[K, nn.Module], input_shape: Sequence[int]) -> dict[K, tuple[int, int]]:
    """Return the parameters and the multiply-accumulates for one example, by network."""
    found = {name: geometry.describe(model, input_shape) for name, model in models.items()}
    return {name: (one.params, one.macs) for name, one in found.items()}


@dataclass(frozen=True)
class Study(Generic[S]):
    """A question, and how it is answered."""

    question: str
    hypothesis: str
    """What was expected: a sentence without a capital letter."""
    labels: Sequence[str]
    """What the parts of a point's name are, for `results.jsonl`."""
    points: Callable[[S], Points]
    """From settings to the runs by name."""
    summarize: Callable[[S, Results], Summary] | None = None
    """From settings and results to findings, tables and figures; by default `comparison`."""
    measure: Measure | None = None
    """What else to measure on a trained point, besides losses and accuracies."""
    claims: Sequence[Claim] = ()
    """The differences that are tested, and how large they are expected to be."""
    best_of: Callable[[S, Sequence[Name]], Mapping[Name, Sequence[Name]]] | None = None
    """From settings and the names of all points to new names, each for the best of several points.
    They are trained with a validation part held out, too. The best one there is taken, and the
    results have its test outcome under the new name."""
    derive: Callable[[S, Results], Results] | None = None
    """From settings and results to outcomes that are computed from several points, such as the
    slope of a line through them, or from several seeds together, such as a variance. They come
    beside the results, or in place of those with the same name. Claims may be about them."""
    tuning: Tuning | None = None
    """What is tuned for every point; without it, points train at the rates of the settings."""
    pooled: bool = False
    """Points that differ only in the last part of their names are seeds of one point."""
    published: Mapping[Name, Mapping[str, str]] = field(default_factory=dict)
    """Accuracies in percent that a paper reports for points on a larger data set (`full`), by
    measure. A key is the name of the data set, followed by the first parts of a point's name."""

    def __post_init__(self) -> None:
        results.check_labels(self.labels)

    def run(self, settings: S) -> Summary:
        """Run the study, write its files into `settings.out`, and return its summary.

        Tables and findings are printed, but not in a notebook, which shows the summary as HTML.
        With `settings.only`, train those points and return their table; nothing else is written.
        With `settings.tune`, choose settings and return them.
        """
        started = time.perf_counter()
        runtime.configure_jax()  # making the points may compute
        where = reduced(settings).out
        with mirror.staged(settings.out, False, lambda step: False, (".jsonl",)) as (folder, _):
            made = self._run(replace(settings, out=folder), started)
        if not (settings.only or settings.tune):
            seconds = time.perf_counter() - started
            print(f"{seconds:.0f} s; results, figures and report are in {where}")
        return made

    def _run(self, settings: S, started: float) -> Summary:
        smoke, settings = settings.smoke, reduced(settings)
        if settings.tune:
            made = Summary([], [self.tune(settings, smoke)], {})
        else:
            configs = self.configs(settings, smoke)
            held_out = {} if settings.only else self.held_out(settings, configs)
            results.check_accuracy(held_out, "to take the best of several points")
            found = outcomes(settings, self.labels, configs, self.measure)
            if settings.only:
                made = Summary([], [comparison.table(self.labels, configs, found)], {})
            else:
                validated = outcomes(settings, self.labels, held_out, self.measure)
                made = self.conclude(settings, found, validated, configs)
        if not in_notebook():
            for table in made.tables:
                table.show()
        if settings.only or settings.tune:
            return made
        if not in_notebook():
            print(f"Hypothesis: {self.hypothesis}", *made.lines(), sep="\n")
        seconds = time.perf_counter() - started
        summary.write(settings.folder, self.question, self.hypothesis, made, seconds)
        return made

    def configs(self, settings: S, smoke: bool = False) -> dict[Name, Config]:
        """Return the runs by name, with their tuned settings."""
        configs = dict(self.points(settings))
        check_points(configs, self.labels)
        selected(settings, configs)  # what is wrong is said first
        if self.tuning is not None:
            configs = self.tuning.apply(configs, settings)
        return _shortened(configs) if smoke else configs

    def tune(self, settings: S, smoke: bool = False) -> Table:
        """Choose the settings of every group of points, and write them beside the study.

        Raises:
            InputError: If the study tunes nothing, or the data is not what it is tuned on.
        """
        if self.tuning is None:
            raise InputError("tune: this study tunes nothing; leave --tune out")
        usual = type(settings)().data_name
        if settings.data_name != usual:
            raise InputError(
                f"tune: the tuned file of this study is for {usual}, got {settings.data_name}: "
                "choose the settings of other data by --validate and --lr"
            )
        if settings.only:
            raise InputError("tune: all points are tuned together; leave --only out")
        seeds = 1 if smoke else tuning.SEEDS
        drawn = replace(settings, seed=tuning.FIRST_SEED, seeds=seeds, validate=True)
        configs = (self.tuning.points or self.points)(drawn)
        groups = self.tuning.groups(_shortened(configs) if smoke else configs)
        results.check_accuracy(configs, "to tune")
        path = settings.folder / "tuned.json" if smoke else self.tuning.path
        run_dir.make_folder(path.parent)
        labels = ("group", *self.tuning.grid, "draw")

        def train(points: Points) -> Results:
            return outcomes(settings, labels, points, file="tuning.jsonl")

        found = tuning.search(self.tuning, groups, train)
        facts = {
            "command": "python " + " ".join(sys.orig_argv[1:]),
            "data": settings.data_name,
            "steps": settings.steps,
            "seeds": list(drawn.seed_range),
            **results.environment(),
            **results.provenance(),
        }
        tuning.write(path, facts, found)
        print(f"the tuned settings are in {path}", file=sys.stderr)
        return tuning.table(found)

    def held_out(self, settings: S, configs: Points) -> dict[Name, Config]:
        """Return the runs of which the best is taken, each with a validation part held out."""
        if self.best_of is None:
            return {}
        choices = self.best_of(settings, list(self._pooled(configs)))
        wanted = {name for several in choices.values() for name in several}
        return {
            name: replace(config, validate=True)
            for name, config in configs.items()
            if (name[:-1] if self.pooled else name) in wanted
        }

    def _pooled(self, configs: Points) -> dict[Name, Config]:
        """Return a run for each name that results have, without those of choices."""
        return {name[:-1] if self.pooled else name: config for name, config in configs.items()}

    def conclude(
        self, settings: S, found: Results, validated: Results, configs: Points | None = None
    ) -> Summary:
        """Return what results say: choices, verdicts on the claims, and the study's own summary.

        Args:
            settings: Of the study.
            found: What the points measured.
            validated: What those of which the best is taken measured on the validation part.
            configs: The runs, for `comparison`; by default those of the settings.
        """
        if self.pooled:
            found, validated = pool_seeds(found), pool_seeds(validated)
        notes = []
        if self.best_of is not None:
            chosen = dict(found)
            for name, several in self.best_of(settings, list(found)).items():
                best = max(several, key=lambda one: validated[one]["test_accuracy"].mean())
                chosen[name] = replace(found[best], chosen=best)
                notes.append(
                    f"{'/'.join(name)} is {'/'.join(best)}: of {len(several)}, it has the highest "
                    "validation accuracy."
                )
            found = chosen
        everything = {**found, **(self.derive(settings, found) if self.derive else {})}
        verdicts = claims.judge(self.claims, everything)
        tested = [verdict.claim for verdict in verdicts]
        if missing := [claim.text for claim in self.claims if claim not in tested]:
            few = "; ".join(missing[:3]) + "; ..." * (len(missing) > 3)
            notes.append(f"{len(missing)} claims have points that were not run: {few}.")
        if self.summarize is not None:
            made = self.summarize(settings, everything)
        else:
            runs = self._pooled(configs or self.configs(settings))
            runs = {name: runs[outcome.chosen or name] for name, outcome in found.items()}
            made = comparison.summarize(self.labels[: len(next(iter(found)))], runs, found)
        figures = {"claims": plots.intervals(verdicts, part=settings.part)} if verdicts else {}
        return replace(
            made,
            figures={**figures, **made.figures},
            verdicts=verdicts,
            notes=[*made.notes, *notes],
        )


def check_points(points: Points, labels: Sequence[str]) -> None:
    """Raise `InputError` if there are no points, or a name does not have a part for each label."""
    if not points:
        raise InputError("points must return at least one point, got none")
    for name in points:
        parts = name if isinstance(name, tuple) else ()
        if len(parts) != len(labels) or not all(isinstance(part, str) for part in parts):
            raise InputError(
                f"the name of a point must be a tuple with a text for each of {tuple(labels)}, "
                f"got {name!r}"
            )
    for config in points.values():
        if taken := sorted({*labels} & {*results.measures(config)}):
            raise InputError(f"labels must not be names of measures, got {taken[0]!r}")


def _shortened(configs: Points) -> dict[Name, Config]:
    """Return the runs with few examples."""
    few = {id(c.data): _few_examples(c.data) for c in configs.values()}
    return {name: replace(c, data=few[id(c.data)]) for name, c in configs.items()}


def _few_examples(data: Dataset) -> Dataset:
    train, test = (predictions.sample(split, 200) for split in (data.train, data.test))
    return replace(data, train=train, test=test)
