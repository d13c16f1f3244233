"""The harness of a study: train the missing points, keep each result, summarize.

A study is a program beside this package: a question, a hypothesis, a frozen dataclass of settings,
a function from settings to points (a `Config` by name) and one from results to a `Summary`.

    STUDY = study.Study(QUESTION, HYPOTHESIS, ("rung", "order"), points, summarize)

Every point and seed is a line of `results.jsonl`. Its key is the hash of what decides it: model,
data, recipe and seed. A line that exists is not computed again, so an interrupted study continues
when it is started again, and one with more seeds runs only the new seeds.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Generic, Literal, TypeVar

from etils import epy

from cnn.errors import InputError, unknown_name
from experiments.harness import progress, results, runner, runtime, summary
from experiments.harness.results import (
    Measure,
    Name,
    Outcome,
    difference,
    differences,
    paired,
    pool_seeds,
)
from experiments.harness.summary import Summary
from experiments.harness.tables import Table, number, percent

with epy.lazy_imports():
    import filelock

    from cnn import data as datasets
    from cnn.train import run_dir

if TYPE_CHECKING:
    from cnn.data import Dataset
    from cnn.train import Config, Result

__all__ = [
    "Measure",
    "Name",
    "Outcome",
    "Settings",
    "Study",
    "Summary",
    "Table",
    "difference",
    "differences",
    "number",
    "outcomes",
    "paired",
    "percent",
    "pool_seeds",
]

STARTED = time.perf_counter()
RECIPE = ("steps", "batch_size", "lr", "schedule", "weight_decay", "seed", "seeds", "validate")
TITLES = {
    "mnist1d": "MNIST-1D",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Settings that all studies share."""

    steps: int = 2000
    """Optimizer steps of every run."""
    batch_size: int = 100
    """Examples per step."""
    lr: float = 2e-2
    """Learning rate of Adam, the largest one of the schedule."""
    schedule: Literal["constant", "cosine"] = "cosine"
    """Learning rate over the steps."""
    weight_decay: float = 0.0
    """Decoupled weight decay of the kernels."""
    seed: int = 0
    """First seed."""
    seeds: int = 5
    """Seeds per point. A seed has the same data order at every point."""
    validate: bool = False
    """Hold out a validation part of the training set and report on it instead of the test set."""
    only: tuple[str, ...] = ()
    """Run only these points, named as in results.jsonl with slashes: conv/ordered."""
    smoke: bool = False
    """Check that the study runs: two seeds, two steps, 200 examples, into the folder OUT/smoke."""
    full: bool = False
    """Use the larger data set, which must be prepared, and the folder OUT/full."""
    data_dir: Path | None = None
    """Folder of prepared TFDS data sets."""
    out: Path = Path("results")
    """Folder for results.jsonl, summary.json, figures (PNG and SVG) and report.html."""

    small: ClassVar[str] = "mnist1d"
    """Name of the built-in data set."""
    large: ClassVar[str] = "fashion_mnist"
    """Name of the data set of `full`; empty if the study has none."""

    def load(self) -> Dataset:
        """Return the data set. Raise `InputError` if the larger one is not prepared."""
        return datasets.load(self.large if self.full else self.small, self.data_dir)

    @property
    def title(self) -> str:
        """The data set's name for captions."""
        name = self.large if self.full else self.small
        return TITLES.get(name, name)

    @property
    def part(self) -> str:
        """What accuracies are reported on: "test" or "validation"."""
        return "validation" if self.validate else "test"

    @property
    def protocol(self) -> str:
        """How often and how long each point is trained, for captions."""
        return f"mean ± standard deviation over {self.seeds} seeds, {self.steps:,} steps"

    def recipe(self) -> dict[str, Any]:
        """Return the settings that are fields of a `Config`, too."""
        return {name: getattr(self, name) for name in RECIPE}


S = TypeVar("S", bound=Settings)


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
    points: Callable[[S], Mapping[Name, Config]]
    """From settings to the runs by name."""
    summarize: Callable[[S, Mapping[Name, Outcome]], Summary]
    """From settings and results to findings, tables and figures."""
    measure: Measure | None = None
    """What else to measure on a trained point, besides losses and accuracies."""

    def run(self, settings: S) -> None:
        """Run the study: print its tables and findings, write its files into `settings.out`.

        With `settings.only`, train those points and print their accuracies, nothing else.
        """
        smoke, settings = settings.smoke, reduced(settings)
        configs = self.points(settings)
        if smoke:
            few = {id(c.data): _first_examples(c.data) for c in configs.values()}
            configs = {name: replace(c, data=few[id(c.data)]) for name, c in configs.items()}
        found = outcomes(settings, self.labels, configs, self.measure)
        if settings.only:
            _accuracies(settings, found).show()
            return
        made = self.summarize(settings, found)
        for table in made.tables:
            table.show()
        print(f"Hypothesis: {self.hypothesis}", *made.findings, sep="\n")
        seconds = time.perf_counter() - STARTED
        summary.write(settings.out, self.question, self.hypothesis, made, seconds)
        print(f"{seconds:.0f} s; results, figures and report are in {settings.out}")


def _first_examples(data: Dataset, count: int = 200) -> Dataset:
    return replace(data, train=data.train.first(count), test=data.test.first(count))


def _accuracies(settings: Settings, outcomes: Mapping[Name, Outcome]) -> Table:
    rows = [
        ["/".join(name), f"{outcome.parameters:,}", percent(outcome["test_accuracy"])]
        for name, outcome in outcomes.items()
    ]
    heads = ["point", "parameters", f"{settings.part}, %"]
    return Table(settings.protocol.capitalize(), heads, rows)


def outcomes(
    settings: Settings,
    labels: Sequence[str],
    points: Mapping[Name, Config],
    measure: Measure | None = None,
) -> dict[Name, Outcome]:
    """Train the seeds that `results.jsonl` lacks, and return the outcome of every point.

    The seeds of a point train together. Several processes may share a folder.

    Raises:
        InputError: A point in `only` is unknown, or a setting is invalid. Nothing is written then.
    """
    points = {name: points[name] for name in _chosen(settings.only, points)}
    for config in points.values():
        config.check()
    keys = results.keys(points, measure)
    run_dir.make_folder(settings.out)
    path = settings.out / "results.jsonl"
    lock = filelock.FileLock(settings.out / ".results.lock")
    with lock:
        found = results.read(path)
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
        with lock, path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(found[keys[name, s]]) + "\n" for s in result.seeds)

    runtime.trim_memory_after_compilation()
    with progress.show_steps(settings.out.name, sum(c.steps for c in missing.values())) as on_step:
        runner.train(missing, on_step, keep)
    return {
        name: results.outcome([found[keys[name, s]] for s in config.seed_range])
        for name, config in points.items()
    }


def _chosen(only: Sequence[str], points: Iterable[Name]) -> list[Name]:
    by_name = {"/".join(name): name for name in points}
    for name in only:
        if name not in by_name:
            raise unknown_name("point", name, by_name)
    return [by_name[name] for name in only or by_name]
