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
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from etils import epy

from cnn.errors import InputError, RunError, unknown_name
from cnn.train.fields import check_fields
from experiments.harness import (
    claims,
    comparison,
    predictions,
    progress,
    results,
    runner,
    runtime,
    summary,
    tuning,
)
from experiments.harness.claims import Claim
from experiments.harness.differences import difference, differences, estimate, paired
from experiments.harness.results import Measure, Name, Outcome, Points, Results, pool_seeds
from experiments.harness.summary import Summary
from experiments.harness.tables import Table, in_notebook, number, percent
from experiments.harness.tuning import Tuning

with epy.lazy_imports():
    import filelock

    from cnn import data as datasets
    from cnn import geometry
    from cnn import train as training
    from cnn.train import files, run_dir

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn.data import Dataset
    from cnn.train import Config, Result

__all__ = ["Claim", "Measure", "Name", "Outcome", "Points", "Results", "Settings", "Study"]
__all__ += ["Summary", "Table", "Tuning", "choose", "costs", "difference", "differences"]
__all__ += ["estimate", "failure", "number", "outcomes", "paired", "percent", "pool_seeds"]
__all__ += ["train_missing"]

RECIPE = ("steps", "batch_size", "schedule", "seed", "seeds", "validate")
LR = 2e-2
"""Learning rate of points that were not tuned."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all studies share."""

    steps: int = 2000
    """Optimizer steps of every run."""
    batch_size: int = 100
    """Examples per step."""
    lr: float | None = None
    """Learning rate of Adam, the largest one of the schedule. By default that of each point in
    experiments/tuned/NAME.json, else 0.02."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate over the steps."""
    weight_decay: float | None = None
    """Decoupled weight decay of the kernels. By default the tuned one, else 0."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds per point. A seed has the same data order at every point."""
    validate: bool = False
    """Hold out a validation part of the training set and report on it instead of the test set."""
    only: tuple[str, ...] = ()
    """Run only these points, named as in results.jsonl with slashes: conv/ordered."""
    tune: bool = False
    """Choose learning rate and weight decay of every point on the validation part, write them to
    experiments/tuned/NAME.json, and end."""
    smoke: bool = False
    """Check that the study runs: two seeds, two steps, 200 examples, into the folder OUT/smoke."""
    full: bool = False
    """Use the larger data set, which must be prepared, and the folder OUT/full."""
    data_dir: Path | None = None
    """Folder of prepared TFDS data sets."""
    out: Path = Path("results")
    """Folder for results.jsonl, figures and report.html; full and smoke use subfolders."""

    small: ClassVar[str] = "mnist1d-50k"
    """Name of the built-in data set."""
    large: ClassVar[str] = "fashion_mnist"
    """Name of the data set of `full`; empty if the study has none."""

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def data_name(self) -> str:
        """Name of the data set of these settings."""
        return self.large if self.full else self.small

    def load(self) -> Dataset:
        """Return the data set. Raise `InputError` if the larger one is not prepared."""
        return datasets.load(self.data_name, self.data_dir)

    @property
    def title(self) -> str:
        """The data set's name for captions."""
        return comparison.TITLES.get(self.data_name, self.data_name)

    @property
    def part(self) -> str:
        """What accuracies are reported on: "test" or "validation"."""
        return "validation" if self.validate else "test"

    @property
    def protocol(self) -> str:
        """How often and how long each point is trained, for captions."""
        return f"mean ± standard deviation over {self.seeds} seeds, {self.steps:,} steps"

    def caption(self, by: str = "") -> str:
        """Return the caption of a table of accuracies; `by` says what the columns are."""
        what = f"{self.part.capitalize()} accuracy on {self.title} in percent"
        return f"{what}{by and f' by {by}'}, {self.protocol}"

    @property
    def seed_range(self) -> range:
        """All seeds."""
        return range(self.seed, self.seed + self.seeds)

    def config(self, model: nn.Module, data: Dataset, **changes: Any) -> Config:
        """Return a run with these settings, except `changes`."""
        recipe = {name: getattr(self, name) for name in RECIPE}
        recipe |= {"lr": self.lr or LR, "weight_decay": self.weight_decay or 0.0}
        return training.Config(model=model, data=data, **recipe | changes)


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


def reduced(settings: S) -> S:
    """Return the settings after `full` and `smoke` have changed the folder and the amount."""
    if settings.full:
        if not settings.large:
            raise InputError("full: this study has no larger data set; leave --full out")
        settings = replace(settings, out=settings.out / "full")
    if not settings.smoke:
        return settings
    return replace(settings, steps=2, seeds=2, smoke=False, out=settings.out / "smoke")


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
    tuning: Tuning | None = None
    """What is tuned for every point; without it, points train at the rates of the settings."""
    pooled: bool = False
    """Points that differ only in the last part of their names are seeds of one point."""

    def __post_init__(self) -> None:
        if isinstance(self.labels, str) or not self.labels:
            raise InputError(f"labels must be texts, ('width',) or more, got {self.labels!r}")

    def run(self, settings: S) -> Summary:
        """Run the study, write its files into `settings.out`, and return its summary.

        Tables and findings are printed, but not in a notebook, which shows the summary as HTML.
        With `settings.only`, train those points and return their table; nothing else is written.
        With `settings.tune`, choose settings and return them.
        """
        started = time.perf_counter()
        runtime.configure_jax()  # making the points may compute
        smoke, settings = settings.smoke, reduced(settings)
        if settings.tune:
            made = Summary([], [self.tune(settings, smoke)], {})
        else:
            configs = self.configs(settings, smoke)
            found = outcomes(settings, self.labels, configs, self.measure)
            if settings.only:
                made = Summary([], [comparison.table(self.labels, configs, found)], {})
            else:
                validated = self.validated(settings, configs)
                made = self.conclude(settings, found, validated, configs)
        if not in_notebook():
            for table in made.tables:
                table.show()
        if settings.only or settings.tune:
            return made
        if not in_notebook():
            print(f"Hypothesis: {self.hypothesis}", *made.lines(), sep="\n")
        seconds = time.perf_counter() - started
        summary.write(settings.out, self.question, self.hypothesis, made, seconds)
        print(f"{seconds:.0f} s; results, figures and report are in {settings.out}")
        return made

    def configs(self, settings: S, smoke: bool = False) -> dict[Name, Config]:
        """Return the runs by name, with their tuned settings."""
        configs = dict(self.points(settings))
        check_points(configs, self.labels)
        if self.tuning is not None:
            configs = self.tuning.apply(configs, settings)
        return _shortened(configs) if smoke else configs

    def tune(self, settings: S, smoke: bool = False) -> Table:
        """Choose the settings of every group of points, and write them beside the study.

        Raises:
            InputError: If the study tunes nothing, or the settings are those of another data set.
        """
        if self.tuning is None:
            raise InputError("tune: this study tunes nothing; leave --tune out")
        if settings.full:
            raise InputError("tune: what is tuned is for the small data set; leave --full out")
        seeds = 1 if smoke else tuning.SEEDS
        drawn = replace(settings, seed=tuning.FIRST_SEED, seeds=seeds, validate=True)
        configs = (self.tuning.points or self.points)(drawn)
        groups = self.tuning.groups(_shortened(configs) if smoke else configs)
        if settings.only:
            by_text = {"/".join(group): group for group in groups}
            chosen = [choose("group", name, by_text) for name in settings.only]
            groups = {group: groups[group] for group in chosen}
        labels = ("group", *self.tuning.grid, "draw")

        def train(points: Points) -> Results:
            every = replace(settings, only=())
            return outcomes(every, labels, points, file="tuning.jsonl")

        found = tuning.search(self.tuning, groups, train)
        path = settings.out / "tuned.json" if smoke else self.tuning.path
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

    def validated(self, settings: S, configs: Points) -> Results:
        """Return the outcomes on the validation part of the points of which the best is taken."""
        if self.best_of is None:
            return {}
        names = {name[:-1] if self.pooled else name for name in configs}
        wanted = {name for of in self.best_of(settings, list(names)).values() for name in of}
        held_out = {
            name: replace(config, validate=True)
            for name, config in configs.items()
            if (name[:-1] if self.pooled else name) in wanted
        }
        return outcomes(settings, self.labels, held_out, self.measure)

    def conclude(
        self, settings: S, found: Results, validated: Results, configs: Points | None = None
    ) -> Summary:
        """Return what results say: choices, verdicts on the claims, and the study's own summary.

        Args:
            settings: Of the study.
            found: What the points measured.
            validated: What those of which the best is taken measured on the validation part.
            configs: The runs, for `comparison`; needed if the study has no `summarize`.
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
        verdicts = claims.judge(self.claims, found)
        if self.summarize is not None:
            made = self.summarize(settings, found)
        else:
            made = comparison.summarize(self.labels, configs or self.configs(settings), found)
        return replace(made, verdicts=verdicts, notes=[*made.notes, *notes])


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


def _shortened(configs: Points) -> dict[Name, Config]:
    """Return the runs with few examples."""
    few = {id(c.data): _few_examples(c.data) for c in configs.values()}
    return {name: replace(c, data=few[id(c.data)]) for name, c in configs.items()}


def _few_examples(data: Dataset) -> Dataset:
    train, test = (predictions.sample(split, 200) for split in (data.train, data.test))
    return replace(data, train=train, test=test)


def outcomes(
    settings: Settings,
    labels: Sequence[str],
    points: Points,
    measure: Measure | None = None,
    file: str = "results.jsonl",
) -> dict[Name, Outcome]:
    """Train the seeds that `file` lacks, and return the outcome of every point.

    Raises:
        InputError: A point in `only` is unknown, or a setting is invalid. Nothing is written then.
        RunError: Points failed. All others are trained and kept.
    """
    found, failed = train_missing(settings, labels, points, measure, file)
    if failed:
        raise failure(failed)
    return found


def failure(failed: Mapping[Name, str]) -> RunError:
    """Return the error that names the points that failed, and why."""
    listed = "; ".join(f"point {'/'.join(name)}: {why}" for name, why in failed.items())
    return RunError(f"{listed}; all other points are kept: the same command trains the rest")


def train_missing(
    settings: Settings,
    labels: Sequence[str],
    points: Points,
    measure: Measure | None = None,
    file: str = "results.jsonl",
) -> tuple[dict[Name, Outcome], dict[Name, str]]:
    """Train the seeds that `file` lacks.

    The seeds of a point train together. Several processes may share a folder.

    Returns:
        The outcome of every point that did not fail, and why the others did.

    Raises:
        InputError: A point in `only` is unknown, or a setting is invalid. Nothing is written then.
    """
    by_name = {"/".join(name): name for name in points}
    chosen = [choose("point", name, by_name) for name in settings.only]
    points = {name: points[name] for name in chosen or points}
    for name, config in points.items():
        with results.naming(name):
            config.check()
    keys = results.keys(points, measure)
    written = (file, ".results.lock", summary.FILE, summary.REPORT)
    run_dir.check_kinds(settings.out, written)
    run_dir.make_folder(settings.out)
    needed = {name: results.measures(config) for name, config in points.items()}
    path = settings.out / written[0]
    lock = filelock.FileLock(settings.out / written[1])
    with lock:
        found = results.read(path, {key: needed[name] for (name, _), key in keys.items()})
    missing: dict[Name, Config] = {}
    for name, config in points.items():
        lacking = [s for s in config.seed_range if keys[name, s] not in found]
        if lacking:
            first, last = min(lacking), max(lacking)
            missing[name] = replace(config, seed=first, seeds=last - first + 1)
    if kept := len(points) - len(missing):
        print(f"{kept} of {len(points)} points are in {path} already", file=sys.stderr)

    def keep(name: Name, config: Config, result: Result) -> None:
        more = measure(config, result) if measure else {}
        lines = results.lines(dict(zip(labels, name, strict=True)), config, result, more)
        for seed, line in zip(result.seeds, lines, strict=True):
            found[keys[name, seed]] = {"key": keys[name, seed], **line}
        with lock:
            files.append_jsonl(path, [found[keys[name, seed]] for seed in result.seeds])

    with progress.show_steps(settings.out.name, sum(c.steps for c in missing.values())) as shown:
        failed = runner.train(missing, shown.advance, keep)
    used = (found[key] for (name, _), key in keys.items() if name not in failed)
    if mixed := results.describe_environments(used):
        print(mixed, file=sys.stderr)
    measured = {
        name: results.outcome([found[keys[name, s]] for s in config.seed_range])
        for name, config in points.items()
        if name not in failed
    }
    return measured, failed
