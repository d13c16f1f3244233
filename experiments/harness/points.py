"""The points of a sweep in their folders: whether one is finished, and why one failed."""

from __future__ import annotations

import contextlib
import json
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epy

from cnn.errors import InputError
from experiments.harness import results

with epy.lazy_imports():
    from cnn.layers import serialization
    from cnn.train import early_stopping, files, recipe, run_dir, training

if TYPE_CHECKING:
    from cnn.train import Config

FAILED = ".failed"
"""Suffix of the file that says why a point failed."""


def check_folder(config: Config, out: Path) -> None:
    """Raise `InputError` if the run may not start in `out`, or another one is there."""
    run_dir.check_folder(out, resume=True, overwrite=False)
    if not (out / run_dir.RUN).exists():
        return
    try:
        before = files.read_json(out / run_dir.RUN)
        found = {name: before[name] for name in ("model", "relax_to", "data", "recipe")}
    except (OSError, ValueError, LookupError, TypeError) as error:
        why = f"{type(error).__name__}: {error}"
        raise InputError(f"{out / run_dir.RUN} cannot be read ({why}): remove its folder") from None
    now = {**training.subject(config, config.examples), "recipe": recipe.identity(config)}
    if other := serialization.differences(found, now):
        raise InputError(
            f"out {str(out)!r} holds a run with other settings ({'; '.join(other[:3])}): choose "
            "another out, or remove that folder"
        )


@dataclass(frozen=True)
class Goal:
    """What a run has reached when it is finished. It holds no data, as a `Config` does."""

    steps: int
    patience: int | None
    evaluate_every: int | None
    measures: tuple[str, ...]

    @classmethod
    def of(cls, config: Config) -> Goal:
        """Return the goal of a run."""
        measures = tuple(results.measures(config))
        return cls(config.steps, config.patience, config.evaluate_every, measures)

    def is_reached(self, out: Path) -> bool:
        """Return whether the run in `out` is finished: trained so far, and measured."""
        lines = run_dir.read_metrics(out)
        if not lines or not lines[-1].get("final") or not set(self.measures) <= set(lines[-1]):
            return False
        early = early_stopping.EarlyStopping(self.patience)
        early.replay(lines, self.evaluate_every)
        return lines[-1]["step"] == self.steps or early.stopping


def measured(line: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Return the measures of a line of metrics by name, one value per seed."""
    values = line.get("per_seed", line)
    parts = ("train_", "validation_", "test_")
    return {
        name: value
        for name, value in values.items()
        if name.startswith(parts) and isinstance(value, list)
    }


def mean(line: Mapping[str, Any], name: str) -> float | None:
    """Return the mean of a measure over the seeds; None if one is not finite, or an array."""
    values = measured(line)[name]
    if not all(isinstance(each, int | float) for each in values):
        return None
    return float(sum(values) / len(values))


class Failures:
    """Why points failed, in files that all workers of a sweep read.

    What had failed before this worker began is tried again.

    Args:
        folder: The folder of the files.
        publish: Called with a file that was written or removed.
    """

    def __init__(self, folder: Path, publish: Callable[[Path], None] = lambda file: None) -> None:
        self._folder, self._publish = folder, publish
        self._old = {path.name: path.read_text() for path in folder.glob(f"*{FAILED}")}

    def write(self, name: str, why: str) -> None:
        """Keep why the point `name` failed."""
        content = json.dumps({"why": why, "id": uuid.uuid4().hex})
        files.write_atomic(self._path(name), content + "\n")
        self._publish(self._path(name))

    def why(self, name: str) -> str:
        """Return why the point failed, also before this worker began; "" if it did not."""
        with contextlib.suppress(OSError, ValueError, LookupError):
            return str(json.loads(self._path(name).read_text())["why"])
        return ""

    def is_new(self, name: str) -> bool:
        """Return whether the point has failed since this worker began."""
        path = self._path(name)
        return path.exists() and path.read_text() != self._old.get(path.name)

    def remove(self, name: str) -> None:
        """Forget that the point failed."""
        if self._path(name).exists():
            self._path(name).unlink(missing_ok=True)
            self._publish(self._path(name))

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}{FAILED}"
