"""The queue of a sweep, from which several workers take points one after another."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from etils import epy

from cnn.errors import RunError
from cnn.train.lease import Lease, Leases
from experiments.harness import axes, points, sweep_table
from experiments.harness.points import Failures, Goal
from experiments.harness.results import Name
from experiments.harness.search import Search, Trial
from experiments.harness.shared import Shared
from experiments.harness.sweep_table import Row

with epy.lazy_imports():
    from cnn.train import run_dir

if TYPE_CHECKING:
    from cnn.train import Config

QUEUE = "queue"
"""Folder of the leases, and of the reasons why points failed."""
SEARCH = "search"
"""Lease of the worker that asks the search for a new trial."""
Make = Callable[[Name], "Config"]
"""The run of a point, in its folder."""


@dataclass(frozen=True)
class Job:
    """A point that this worker may train while it holds the lease."""

    point: Name
    folder: str
    place: str
    lease: Lease
    trial: int = -1


class Queue(ABC):
    """The points of a sweep in a folder; `names` are those of the axes."""

    def __init__(self, shared: Shared, names: Sequence[str], make: Make, seconds: float) -> None:
        self.shared, self.out, self.names, self.make = shared, shared.folder, names, make
        self.leases, self._runs = Leases(shared.out / QUEUE, seconds), Leases(shared.out)
        self.failures = Failures(self.out / QUEUE, shared.publish)

    def folder(self, point: Name) -> str:
        """Return the name of a point's folder."""
        return axes.folder_name(self.names, point)

    @abstractmethod
    def take(self) -> Job | None:
        """Return a point to train, or None if there is none at the moment."""

    @abstractmethod
    def is_done(self) -> bool:
        """Return whether all points are finished, pruned or failed."""

    @abstractmethod
    def rows(self) -> list[Row]:
        """Return all points for the table."""

    def give_up(self, job: Job, line: Mapping[str, Any]) -> bool:
        """Take a line of metrics. Return whether the point is pruned."""
        return False

    def end(self, job: Job, status: Literal["finished", "pruned"], line: Mapping[str, Any]) -> None:
        """Keep that a point is finished, or was pruned."""
        self.failures.remove(job.folder)

    def fail(self, job: Job, why: str) -> None:
        """Keep why a point failed."""
        self.failures.write(job.folder, why)

    def _lease(self, folder: str) -> Lease | None:
        """Return the lease of a point, None if somebody trains it, with a lease or without."""
        if self._runs.is_held(f"{folder}/"):  # in a bucket
            return None
        lease = self.leases.take(folder)
        if lease is not None and run_dir.is_locked(self.out / folder):
            lease.release()
            return None
        return lease

    def _row(self, point: Name, status: str, **more: Any) -> Row:
        folder = self.folder(point)
        why = self.failures.why(folder) if status == "failed" else ""
        line = sweep_table.newest(self.out / folder)
        if status == "open":
            has_run = (self.out / folder / run_dir.RUN).exists()
            is_held = self.leases.is_held(folder)
            status = "running" if is_held else "stopped" if has_run else "waiting"
        values = dict(zip(self.names, point, strict=True))
        return Row(values, folder, status, line, why, more)


class Grid(Queue):
    """Points that are all known; the goals are None where `make` cannot make the run."""

    def __init__(
        self,
        shared: Shared,
        names: Sequence[str],
        make: Make,
        seconds: float,
        goals: Mapping[Name, Goal | None],
    ) -> None:
        super().__init__(shared, names, make, seconds)
        self._goals = goals
        self._open = list(goals)

    def take(self) -> Job | None:
        """Return the first point that nobody trains."""
        self.shared.refresh()
        for point in list(self._open):
            folder = self.folder(point)
            if not self.leases.is_held(folder) and self._status(point) != "open":
                self._open.remove(point)
            elif lease := self._lease(folder):
                self.shared.refresh()
                if self._status(point) == "open":  # and not finished in the meantime
                    number = list(self._goals).index(point) + 1
                    return Job(point, folder, f"point {number} of {len(self._goals)}", lease)
                lease.release()
        return None

    def _status(self, point: Name) -> str:
        goal, folder = self._goals[point], self.folder(point)
        if goal is not None and goal.is_reached(self.out / folder):
            return "finished"
        return "failed" if self.failures.is_new(folder) else "open"

    def is_done(self) -> bool:
        """Return whether all points are finished or failed."""
        self.shared.refresh()
        return all(self._status(point) != "open" for point in self._open)

    def rows(self) -> list[Row]:
        """Return the points in their order."""
        self.shared.refresh()
        return [self._row(point, self._status(point)) for point in self._goals]


class Trials(Queue):
    """Points that a search chooses by the mean of the measure `objective` over the seeds."""

    def __init__(
        self,
        shared: Shared,
        names: Sequence[str],
        make: Make,
        seconds: float,
        search: Search,
        objective: str,
        evaluate_every: int | None,
    ) -> None:
        super().__init__(shared, names, make, seconds)
        self._search, self._objective, self._every = search, objective, evaluate_every

    def take(self) -> Job | None:
        """Return a trial whose worker is dead, or a new one."""
        for trial in self._running():
            if job := self._job(trial):
                if trial in self._running():  # and not ended in the meantime
                    return job
                job.lease.release()
        asking = self.leases.take(SEARCH)
        if asking is None:
            return None
        try:
            asked = self._search.ask()
            return self._job(asked) if asked else None
        finally:
            asking.release()

    def _running(self) -> list[Trial]:
        return [trial for trial in self._search.trials() if trial.status == "running"]

    def _job(self, trial: Trial) -> Job | None:
        folder = self.folder(trial.point)
        lease = self._lease(folder)
        place = f"trial {trial.number + 1} of {self._search.wanted}"
        return Job(trial.point, folder, place, lease, trial.number) if lease else None

    def is_done(self) -> bool:
        """Return whether all trials have ended."""
        return self._search.is_done()

    def give_up(self, job: Job, line: Mapping[str, Any]) -> bool:
        """Report an evaluation; trials that are worse than the median are pruned."""
        is_due = self._every and line["step"] % self._every == 0
        if not is_due or self._objective not in line:
            return False
        return self._search.report(job.trial, line["step"], points.mean(line, self._objective))

    def end(self, job: Job, status: Literal["finished", "pruned"], line: Mapping[str, Any]) -> None:
        """Tell the search."""
        super().end(job, status, line)
        if status == "pruned":
            self._search.end(job.trial, "pruned")
            return
        value = points.mean(line, self._objective)
        if value is None:
            raise RunError(f"{self._objective} is not finite")
        self._search.finish(job.trial, value)

    def fail(self, job: Job, why: str) -> None:
        """Keep why a trial failed, and tell the search."""
        super().fail(job, why)
        self._search.end(job.trial, "failed")

    def rows(self) -> list[Row]:
        """Return the trials in their order."""
        return list(self._rows())

    def _rows(self) -> Iterator[Row]:
        for trial in self._search.trials():
            status = "open" if trial.status == "running" else trial.status
            yield self._row(trial.point, status, trial=trial.number)
