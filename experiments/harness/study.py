"""The harness of a study: run the points that are missing, keep each as it ends, say what differs.

A study is a file beside this one: a question and a hypothesis, a frozen dataclass of settings, a
function from settings to points (a named `Config` each), and one from results to a `Story`. Its
`main` is one call:

    study.main(settings, QUESTION, HYPOTHESIS, ("rung", "order"), points, tell)

Every point and seed is a line of `results.jsonl`, under a key that is the hash of what decides it:
model, data, recipe, seed. A line that is there is not computed again, so a study that was
interrupted goes on when it is started again, and one with more seeds runs the new seeds only.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeVar

from cnn.errors import InputError, listed, unknown_name
from experiments.harness import results, runner, runtime
from experiments.harness.results import Measure, Name, Outcome, differences, paired

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from cnn.data import Dataset
    from cnn.train import Config, Result
    from experiments.harness.report import Table

__all__ = [
    "Full",
    "Measure",
    "Name",
    "Outcome",
    "Settings",
    "Story",
    "differences",
    "main",
    "paired",
    "publish",
    "reduced",
    "run",
]

STARTED = time.perf_counter()


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What every study has in common."""

    steps: int = 2000
    """Optimizer steps of every run."""
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
    """Seeds per point; a seed has the same data order at every point."""
    validate: bool = False
    """Train without the validation part and report on it: for choosing, instead of the test set."""
    only: tuple[str, ...] = ()
    """Run these points alone, named as in results.jsonl with slashes: conv/ordered."""
    smoke: bool = False
    """Two seeds of two steps on 200 examples, into the folder smoke inside of out: does it run?"""
    out: Path = Path("results")
    """Folder for results.jsonl, figures (PNG and SVG) and report.html."""

    def recipe(self) -> dict[str, Any]:
        """Return the fields that a `Config` has too."""
        own = {"only", "smoke", "out"}
        return {f.name: getattr(self, f.name) for f in fields(Settings) if f.name not in own}


@dataclass(frozen=True, kw_only=True)
class Full(Settings):
    """What the studies have in common that can be asked of real images, too."""

    full: bool = False
    """Real images in place of the built-in data, into the folder full inside of out."""
    data_dir: Path | None = None
    """Where prepared TFDS sets are."""

    def data(self, built_in: str, real: str = "fashion_mnist") -> Dataset:
        """Return the set that is asked for. Raises `InputError` if the real one is not prepared."""
        from cnn.data import load

        return load(real, self.data_dir) if self.full else load(built_in)

    def title(self, built_in: str, real: str = "Fashion-MNIST") -> str:
        """Return what a caption calls the data."""
        return real if self.full else built_in


S = TypeVar("S", bound=Settings)


def reduced(settings: S) -> S:
    """Return what `--full` and `--smoke` make of the settings: where to, and how little."""
    if isinstance(settings, Full) and settings.full:
        settings = replace(settings, out=settings.out / "full")
    if not settings.smoke:
        return settings
    return replace(settings, steps=2, seeds=2, smoke=False, out=settings.out / "smoke")


class Story(NamedTuple):
    """What the results say: sentences, tables, and figures by the name of their files."""

    findings: Sequence[str]
    tables: Sequence[Table]
    figures: Mapping[str, Figure]


def main(
    settings: S,
    question: str,
    hypothesis: str,
    labels: Sequence[str],
    points: Callable[[S], Mapping[Name, Config]],
    tell: Callable[[S, Mapping[Name, Outcome]], Story],
    measure: Measure | None = None,
) -> None:
    """Run the study, print its tables and findings, leave its files in `settings.out`.

    With `settings.only`, nothing is told but what those points measured.
    """
    smoke, settings = settings.smoke, reduced(settings)
    chosen = points(settings)
    if smoke:
        few = {id(c.data): _few(c.data) for c in chosen.values()}
        chosen = {name: replace(c, data=few[id(c.data)]) for name, c in chosen.items()}
    results = run(settings, labels, chosen, measure)
    if settings.only:
        _accuracies(settings, results).show()
        return
    findings, tables, figures = tell(settings, results)
    publish(settings, question, [f"Hypothesis: {hypothesis}", *findings], tables, figures)


def _few(data: Dataset, count: int = 200) -> Dataset:
    """Return the data set with its first examples only."""
    return replace(data, train=data.train.first(count), test=data.test.first(count))


def _accuracies(settings: Settings, results: Mapping[Name, Outcome]) -> Table:
    from experiments.harness.report import Table, percent

    part = "validation" if settings.validate else "test"
    rows = [
        ["/".join(name), f"{result.parameters:,}", percent(result["test_accuracy"])]
        for name, result in results.items()
    ]
    return Table(f"Of {settings.seeds} seeds", ["point", "parameters", f"{part}, %"], rows)


def run(
    settings: Settings,
    labels: Sequence[str],
    points: Mapping[Name, Config],
    measure: Measure | None = None,
) -> dict[Name, Outcome]:
    """Train the seeds that are not yet in `results.jsonl`, and return all that were asked for.

    `labels` says what the parts of a name are. The seeds of a point train together. Raises
    `InputError` for an unknown point in `only`, and before anything is written for whatever cannot
    work.
    """
    from filelock import FileLock

    from cnn.train.run_dir import make_folder
    from experiments.harness.progress import show_steps

    points = {name: points[name] for name in _chosen(settings.only, points)}
    for config in points.values():
        config.check()
    keys = results.keys(points, measure)
    make_folder(settings.out)
    path = settings.out / "results.jsonl"
    lock = FileLock(settings.out / ".results.lock")  # several processes may share the points
    with lock:
        found = results.found(path)
    missing: dict[Name, Config] = {}
    for name, config in points.items():
        lacking = [s for s in config.seed_range if keys[name, s] not in found]
        if lacking:
            first, last = min(lacking), max(lacking)
            missing[name] = replace(config, seed=first, seeds=last - first + 1)
    if len(missing) < len(points):
        kept = len(points) - len(missing)
        print(f"{kept} of {len(points)} points are in {path} already", file=sys.stderr)

    def keep(name: Name, config: Config, result: Result) -> None:
        more = measure(config, result) if measure else {}
        lines = results.lines(dict(zip(labels, name, strict=True)), config, result, more)
        for key, line in zip((keys[name, s] for s in result.seeds), lines, strict=True):
            found[key] = {"key": key, **line}
        with lock, path.open("a", encoding="utf-8") as file:
            file.writelines(json.dumps(found[keys[name, s]]) + "\n" for s in result.seeds)

    runtime.give_back_after_compiling()
    with show_steps(settings.out.name, sum(c.steps for c in missing.values())) as on_step:
        runner.train(missing, on_step, keep)
    return {
        name: results.outcome_of([found[keys[name, s]] for s in config.seed_range])
        for name, config in points.items()
    }


def _chosen(only: Sequence[str], points: Iterable[Name]) -> list[Name]:
    by_name = {"/".join(name): name for name in points}
    for name in only:
        if name not in by_name:
            raise (
                unknown_name("point", name, by_name)
                if len(by_name) > 30
                else InputError(f"unknown point {name!r}: the study has {listed(by_name)}")
            )
    return [by_name[name] for name in only or by_name]


def publish(
    settings: Settings,
    title: str,
    findings: Sequence[str],
    tables: Sequence[Table],
    figures: Mapping[str, Figure],
) -> None:
    """Print tables and findings; leave figures, report and `story.json` in `settings.out`."""
    from experiments.harness import summary
    from experiments.harness.report import save_figure, write_report

    for table in tables:
        table.show()
    print(*findings, sep="\n")
    drawings = [save_figure(figure, settings.out / name) for name, figure in figures.items()]
    seconds = time.perf_counter() - STARTED
    write_report(settings.out / "report.html", title, findings, tables, drawings, seconds)
    summary.write(settings.out, title, findings, tables, figures)
    print(f"{seconds:.0f} s; results, figures and report are in {settings.out}")
