"""The outcomes of points: read from lines of results, or else trained and written."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from etils import epy

from cnn.errors import RunError, unknown_name
from experiments.harness import progress, results, runner, summary
from experiments.harness.results import Measure, Name, Outcome, Points
from experiments.harness.settings import Settings

with epy.lazy_imports():
    import filelock

    from cnn.train import files, run_dir

if TYPE_CHECKING:
    from cnn.train import Config, Result


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


def selected(settings: Settings, points: Points) -> dict[Name, Config]:
    """Return the points in `settings.only`, or all if there are none.

    Raises:
        InputError: A point in `only` is unknown, or a setting of a selected point is invalid.
    """
    by_text = {"/".join(name): name for name in points}
    if unknown := [text for text in settings.only if text not in by_text]:
        raise unknown_name("point", unknown[0], by_text)
    chosen = {by_text[text]: points[by_text[text]] for text in settings.only or by_text}
    for name, config in chosen.items():
        with results.naming(name):
            config.check()
    return chosen


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
    points = selected(settings, points)
    keys = results.keys(points, measure)
    written = (file, ".results.lock", summary.FILE, summary.REPORT)
    run_dir.check_kinds(settings.folder, written)
    run_dir.make_folder(settings.folder)
    needed = {name: results.measures(config) for name, config in points.items()}
    path = settings.folder / written[0]
    lock = filelock.FileLock(settings.folder / written[1])
    with lock:
        found = results.read(path, {key: needed[name] for (name, _), key in keys.items()})
    missing: dict[Name, Config] = {}
    for name, config in points.items():
        lacking = [s for s in config.seed_range if keys[name, s] not in found]
        if lacking:
            first, last = min(lacking), max(lacking)
            missing[name] = replace(config, seed=first, seeds=last - first + 1)
    if kept := len(points) - len(missing):
        print(f"{kept} of {len(points)} points are in {file} already", file=sys.stderr)

    def keep(name: Name, config: Config, result: Result) -> None:
        more = measure(config, result) if measure else {}
        lines = results.lines(dict(zip(labels, name, strict=True)), config, result, more)
        for seed, line in zip(result.seeds, lines, strict=True):
            found[keys[name, seed]] = {"key": keys[name, seed], **line}
        with lock:
            files.append_jsonl(path, [found[keys[name, seed]] for seed in result.seeds])

    with progress.show_steps(settings.folder.name, sum(c.steps for c in missing.values())) as shown:
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
