"""Train every combination of some settings, or search for good ones; each point is a run.

    python -m experiments.sweep --data digits --over model=mlp,logistic --over lr=1e-3,3e-3,1e-2
    python -m experiments.sweep --data digits --model mlp --over lr=1e-4..1e-1:log \
        --search tpe --trials 64 --evaluate-every 200

Any flag of `experiments.train` can be given once, or varied by `--over`. A point is a run folder in
`--out`, with its metrics, curves and checkpoints: `experiments.runs OUT` lists them, and a killed
point goes on from its checkpoint. Finished points are not trained again. A point that fails is
named, and the others are trained; the exit code is then 1, and the next start tries it again.

The same command, started several times, on one machine or on several with one folder in common,
divides the points: each process takes one after another, also those of a process that was killed.
At the end each prints the table, the same as `sweep.csv`, and draws the best learning curves.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_type_hints

import tyro
from etils import epy

from cnn.errors import InputError, RunError
from experiments import runs, train
from experiments.harness import axes, cli, points, results, runtime, study
from experiments.harness.lease import SECONDS, Lease, Leases
from experiments.harness.points import Failures, Row
from experiments.harness.results import Name
from experiments.harness.search import check_installed
from experiments.launch.distributed import Processes

with epy.lazy_imports():
    from cnn import data as datasets
    from cnn import train as training
    from cnn.train import run_dir

if TYPE_CHECKING:
    from cnn.train import Config

OF_ONE_RUN = (
    *("resume", "overwrite", "tensorboard", "wandb", "profile"),
    *(field.name for field in fields(Processes)),
)
"""Flags of `experiments.train` that a sweep refuses. Its runs always resume."""
NO_AXIS = {"seeds", "out", "data_dir", "config", "validate", *OF_ONE_RUN}
QUEUE = "queue"
"""Folder of leases and of reasons why points failed."""
CURVES = len(runs.COLORS)


@dataclass(frozen=True, kw_only=True)
class Flags(train.Flags):
    """The settings that vary, how, and all others."""

    over: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting and its values, NAME=A,B,C, or for searches a range, NAME=LOW..HIGH or
    NAME=LOW..HIGH:log. NAME is a flag, model_args.NAME or optimizer_args.NAME; for ablate the value
    none is no ablation, and blanks separate several. Given several times, every combination is a
    point."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """All combinations, or by Optuna points at random, or by its tree-structured Parzen estimator.
    Optuna also prunes trials that are worse than the median, at every `evaluate_every` steps."""
    trials: int | None = None
    """Number of points of a search."""
    objective: str | None = None
    """Measure that decides, as in metrics.jsonl; validation_accuracy by default, or else
    validation_loss. A grid is only sorted by it."""
    wait: bool = True
    """When other workers train the last points, wait for them: a point whose worker is killed is
    taken over."""
    lease_seconds: float = SECONDS
    """Seconds without a sign of life after which a worker on another host counts as killed; the
    same for all workers."""
    model: str = ""
    data: str = ""
    validate: bool = True
    """Report on a held-out part of the training set, because the test set is not for choosing."""
    on_nan: Literal["stop", "skip"] = "skip"
    out: Path | None = Path("results/sweep")
    """Folder of the runs, one for each point."""

    def check_sweep(self) -> None:
        """Raise `InputError` for flags of a sweep that are invalid or exclude each other."""
        for name in OF_ONE_RUN:
            if getattr(self, name) != getattr(train.Flags, name):
                raise InputError(f"{name} is for single runs: leave it out")
        if self.out is None:
            raise InputError("out must be a folder, got None")
        if not 0 < self.lease_seconds < float("inf"):
            raise InputError(f"lease_seconds must be positive, got {self.lease_seconds}")
        if self.search == "grid":
            if self.trials is not None:
                raise InputError("trials is for searches: give --search random or tpe, or leave it")
            return
        if self.trials is None or self.trials < 1:
            raise InputError(
                f"trials must be 1 or more with search {self.search}, got {self.trials}"
            )
        if not self.validate:
            raise InputError("search needs validate: the test set is not for choosing")
        check_installed()


class LeaseLostError(RunError):
    """Another worker has taken the point over."""


@dataclass(frozen=True)
class Job:
    """A point that this worker may train, as long as it holds the lease."""

    folder: str
    place: str
    lease: Lease
    trial: int = -1


class Queue(Protocol):
    """The points of a sweep, which several workers share."""

    def take(self) -> Job | None:
        """Return a point to train, or None if there is none at the moment."""

    def is_done(self) -> bool:
        """Return whether all points are finished, pruned or failed."""

    def config(self, job: Job) -> Config:
        """Return the run of a point."""

    def report(self, job: Job, line: Mapping[str, Any]) -> bool:
        """Take a line of metrics. Return whether to give the point up."""

    def finish(self, job: Job, final: Mapping[str, Any]) -> None:
        """Keep that a point is finished."""

    def prune(self, job: Job) -> None:
        """Keep that a point was given up."""

    def fail(self, job: Job, why: str) -> None:
        """Keep why a point failed."""

    def rows(self) -> list[Row]:
        """Return all points for the table."""


def main(flags: Flags) -> None:
    """Train the points that are not finished, and print the table of all."""
    flags.check_sweep()
    runtime.configure_jax()
    queue = open_queue(flags)
    assert flags.out is not None
    with training.stop_on_signals() as stop:
        is_stopped = work(queue, lambda: stop(0), flags.wait, flags.lease_seconds)
    rows = queue.rows()
    if is_stopped:
        done = sum(row.status in ("finished", "pruned", "failed") for row in rows)
        command = shlex.join([*(cli.program() or "python -m experiments.sweep").split()])
        print(f"stopped; {done} points are done; continue with\n{command} {shlex.join(sys.argv[1:])}")
        return
    summarize(flags, rows)
    if failed := {(row.folder,): row.why for row in rows if row.status == "failed"}:
        raise study.failure(failed)


def open_queue(flags: Flags) -> Queue:
    """Return the points of a sweep, checked.

    Raises:
        InputError: For settings that are known to be wrong. Nothing is written then.
    """
    hints = get_type_hints(train.Flags)
    varied = axes.parse(flags.over, [name for name in hints if name not in NO_AXIS])
    grid = axes.grid(varied) if flags.search == "grid" else axes.corners(varied)
    maker = Maker(flags, [axis.name for axis in varied], hints)
    made = {point: maker.check(point) for point in grid}
    if flags.search == "grid":
        return Grid(flags, maker, made)
    return Trials(flags, maker, varied, [each for each in made.values() if each is not None])


class Maker:
    """Makes the runs of points."""

    def __init__(self, flags: Flags, names: Sequence[str], hints: Mapping[str, Any]) -> None:
        assert flags.out is not None
        self.flags, self.names, self._hints, self.out = flags, names, hints, flags.out
        self._load = lru_cache(datasets.load)  # points with the same data set share it

    def folder(self, point: Name) -> str:
        return axes.folder_name(self.names, point)

    def values(self, point: Name) -> dict[str, str]:
        return dict(zip(self.names, point, strict=True))

    def config(self, point: Name) -> Config:
        """Return the run of a point, in its folder."""
        at = axes.at_point(self.flags, self._hints, self.names, point)
        at = replace(at, out=self.out / self.folder(point), resume=True)
        data = self._load(at.data, at.data_dir, at.size, at.channels)
        return train.config(at, data, train.by_name(at.model, at.model_args, at.ablate))

    def check(self, point: Name) -> Config | None:
        """Return the run of a point, or None if its network cannot be made.

        Raises:
            InputError: If its settings are wrong, or its folder is of another run.
        """
        at = axes.at_point(self.flags, self._hints, self.names, point)
        for name in ("model", "data"):
            if not getattr(at, name):
                raise InputError(f"{name} is missing: give --{name}, or --over {name}=A,B")
        with results.naming((self.folder(point),)):
            at.check()
        self._load(at.data, at.data_dir, at.size, at.channels)
        train.by_name(at.model, at.model_args, at.ablate)
        try:
            made = self.config(point)
        except Exception:
            return None
        with results.naming((self.folder(point),)):
            made.check()
            points.check_settings(made)
        return made


class Grid:
    """All combinations of the values."""

    def __init__(self, flags: Flags, maker: Maker, made: Mapping[Name, Config | None]) -> None:
        self._maker, self._out = maker, maker.out
        self._points = {maker.folder(point): point for point in made}
        self._made = {maker.folder(point): config for point, config in made.items()}
        run_dir.make_folder(self._out)
        self._leases = Leases(self._out / QUEUE, flags.lease_seconds)
        self._failures = Failures(self._out / QUEUE)
        self._open = list(self._points)

    def take(self) -> Job | None:
        for folder in list(self._open):
            if self._is_settled(folder):
                self._open.remove(folder)
                continue
            lease = self._leases.take(folder)
            if lease is None:
                continue
            if self._is_settled(folder) or run_dir.is_locked(self._out / folder):
                lease.release()
                continue
            place = f"point {list(self._points).index(folder) + 1} of {len(self._points)}"
            return Job(folder, place, lease)
        return None

    def _is_settled(self, folder: str) -> bool:
        config = self._made[folder]
        finished = config is not None and points.final_line(config) is not None
        return finished or self._failures.read(folder) is not None

    def is_done(self) -> bool:
        return all(map(self._is_settled, self._open))

    def config(self, job: Job) -> Config:
        return self._made[job.folder] or self._maker.config(self._points[job.folder])

    def report(self, job: Job, line: Mapping[str, Any]) -> bool:
        return False

    def finish(self, job: Job, final: Mapping[str, Any]) -> None:
        self._failures.remove(job.folder)

    def prune(self, job: Job) -> None:
        raise NotImplementedError

    def fail(self, job: Job, why: str) -> None:
        self._failures.write(job.folder, why)

    def rows(self) -> list[Row]:
        return [
            Row(self._maker.values(point), folder, *self._status(folder))
            for folder, point in self._points.items()
        ]

    def _status(self, folder: str) -> tuple[str, str]:
        config = self._made[folder]
        if config is not None and points.final_line(config) is not None:
            return "finished", ""
        if why := self._failures.read(folder):
            return "failed", why
        return _unfinished(self._out, self._leases, folder), ""
