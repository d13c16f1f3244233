"""Train every combination of some settings, or search for good ones; each point is a run.

    python -m experiments.sweep --data digits --over model=mlp,logistic --over lr=1e-3,3e-3,1e-2
    python -m experiments.sweep --data digits --model mlp --over lr=1e-4..1:log --search tpe
        --trials 64 --evaluate-every 200

Any flag of `experiments.train` can be given once, or varied by `--over`. A point is a run folder in
`--out`, with its metrics, curves and checkpoints: `experiments.runs OUT` lists them, and a killed
point goes on from its checkpoint. Finished points are not trained again. A point that fails is
named, and the others are trained; the exit code is then 1, and the next start tries it again.

The same command, started several times, on one machine or on several with one folder or bucket in
common, divides the points: each process takes one after another, also those of a process that was
killed. At the end each prints the table, writes it as `sweep.csv` and draws the best learning
curves.
"""

from __future__ import annotations

import contextlib
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_type_hints

import tyro
from etils import epy

from cnn.buckets import BucketPath
from cnn.errors import InputError, unknown_name
from cnn.train.lease import SECONDS
from cnn.train.recipe import identity
from experiments import runs, train
from experiments.harness import (
    axes,
    cli,
    points,
    queues,
    results,
    runtime,
    shared,
    study,
    sweep_table,
    worker,
)
from experiments.harness.axes import Axis
from experiments.harness.points import Goal
from experiments.harness.results import Name
from experiments.harness.search import JOURNAL, Search, check_installed, is_maximized
from experiments.harness.shared import Shared
from experiments.harness.sweep_table import Row
from experiments.launch.distributed import Processes

with epy.lazy_imports():
    from cnn import data as datasets
    from cnn import train as training
    from cnn.train import files, run_dir

if TYPE_CHECKING:
    from cnn.train import Config

OF_ONE_RUN = (
    *("resume", "overwrite", "tensorboard", "wandb", "profile"),
    *(field.name for field in fields(Processes)),
)
"""Flags of `experiments.train` that a sweep refuses. Its runs always resume."""
COPIED = ("run.json", "metrics.jsonl", points.FAILED)
"""Ends of the names of the files of a sweep in a bucket that a worker reads."""
NO_AXIS = {"seeds", "out", "data_dir", "config", "validate", *OF_ONE_RUN}


@dataclass(frozen=True, kw_only=True)
class Flags(train.Flags):
    """The settings that vary, how, and all others."""

    over: tyro.conf.UseAppendAction[tuple[str, ...]] = ()
    """A setting and its values, NAME=A,B,C, or for searches a range, NAME=LOW..HIGH or
    NAME=LOW..HIGH:log. NAME is a flag, model_args.NAME or optimizer_args.NAME. Several values of
    ablate or augment at once are separated by blanks; none stands for no value. Given several
    times, every combination is a point."""
    search: Literal["grid", "random", "tpe"] = "grid"
    """All combinations, or points that Optuna chooses at random or by its tree-structured Parzen
    estimator. Optuna also prunes trials that are worse than the median, if `evaluate_every` is
    given."""
    trials: int | None = None
    """Number of points of a search."""
    objective: str | None = None
    """Measure that decides a search and sorts the table, as in metrics.jsonl. Searches take
    validation_accuracy by default, or validation_loss where there is none."""
    wait: bool = True
    """While other workers train the last points, wait: a dead worker's point is taken over."""
    lease_seconds: float = SECONDS
    """Seconds without a sign of life after which a worker on another host counts as dead. Give all
    workers the same."""
    data: str = ""
    validate: bool = True
    """Report on a held-out part of the training set, because the test set is not for choosing."""
    on_nan: Literal["stop", "skip"] = "skip"
    """If a loss, gradient or update is not finite: skip the step, or let the point fail."""
    out: Path | BucketPath | None = Path("results/sweep")
    """Folder of the runs, one for each point, also in a bucket (gs://, s3://)."""

    def check_sweep(self) -> None:
        """Raise `InputError` for flags that are not for sweeps, or exclude each other."""
        for name in OF_ONE_RUN:
            if getattr(self, name) != getattr(train.Flags, name):
                raise InputError(f"{name} is for single runs: leave it out")
        if self.out is None:
            raise InputError("out must be a folder, got None")
        if not 0 < self.lease_seconds < float("inf"):
            raise InputError(f"lease_seconds must be positive, got {self.lease_seconds}")
        if self.search == "grid":
            if self.trials is not None:
                raise InputError("trials is for searches: leave it out, or give --search tpe")
            return
        if isinstance(self.out, BucketPath):
            raise InputError(f"search needs an out in a file system, got '{self.out}'")
        if self.trials is None or self.trials < 1:
            raise InputError(f"trials must be 1 or more for --search, got {self.trials}")
        if not self.validate:
            raise InputError("search needs validate: the test set is not for choosing")
        check_installed()


def main(flags: Flags) -> None:
    """Train the points that are not finished, and print the table of all."""
    flags.check_sweep()
    runtime.configure_jax()
    assert flags.out is not None
    with shared.opened(flags.out, COPIED) as home:
        queue, objective = open_queue(flags, home)
        with training.stop_on_signals() as stop:
            is_stopped = worker.work(queue, lambda: stop(0), flags.wait)
        if is_stopped:
            command = cli.program() or "python -m experiments.sweep"
            print(f"stopped; continue with\n{shlex.join([*command.split(), *sys.argv[1:]])}")
            return
        rows = queue.rows()
        summarize(flags, home, rows, objective)
    failed: dict[Name, str] = {(r.folder,): r.why for r in rows if r.status == "failed"}
    if failed:
        raise study.failure(failed)


def open_queue(flags: Flags, home: Shared) -> tuple[queues.Queue, str | None]:
    """Return the points, and the measure that sorts them.

    Args:
        flags: The settings.
        home: The folder `flags.out`.

    Raises:
        InputError: For settings that are known to be wrong. Nothing is written then.
    """
    maker, out = Maker(flags, home), home.folder
    known = [field.name for field in fields(train.Flags) if field.name not in NO_AXIS]
    varied = axes.parse(flags.over, known)
    maker.names = [axis.name for axis in varied]
    is_grid = flags.search == "grid"
    chosen = axes.grid(varied) if is_grid else axes.corners(varied)
    goals = {point: maker.check(point) for point in chosen}
    if not any(goals.values()):
        with results.naming((axes.label(maker.names, chosen[0]),)):
            maker.config(chosen[0])  # says why
    objective = _objective(flags, [goal.measures for goal in goals.values() if goal is not None])
    run_dir.check_kinds(out, files=("sweep.csv", JOURNAL), folders=(queues.QUEUE,))
    run_dir.make_folder(out / queues.QUEUE)
    common = home, maker.names, maker.config, flags.lease_seconds
    if is_grid:
        return queues.Grid(*common, goals), objective
    assert objective is not None and flags.search != "grid"
    about = {"seed": flags.seed, **_fixed(flags, varied)}
    search = Search(out, flags.search, varied, flags.trials or 0, objective, about)
    return queues.Trials(*common, search, objective, flags.evaluate_every), objective


def _objective(flags: Flags, measures: Sequence[Sequence[str]]) -> str | None:
    """Return the measure that decides, None for a grid in its own order."""
    if flags.objective is None:
        if flags.search == "grid":
            return None
        accuracy = "validation_accuracy"
        return accuracy if all(accuracy in each for each in measures) else "validation_loss"
    for each in measures:
        if flags.objective not in each:
            raise unknown_name("objective", flags.objective, each)
    is_maximized(flags.objective)
    return flags.objective


def _fixed(flags: Flags, varied: Sequence[Axis]) -> dict[str, Any]:
    """Return the settings that a search that is continued must not change, as JSON."""
    names = ["model", "model_args", "spec", "ablate", "data", "size", "channels", "relax_to"]
    names += ["steps", "epochs", "patience", "evaluate_every"]
    found = {**identity(flags), **{name: getattr(flags, name) for name in names}}
    found["spec"] = flags.spec and str(flags.spec)
    return {name: value for name, value in found.items() if name not in {a.name for a in varied}}


class Maker:
    """Makes the runs of points. Points with the same data set share it."""

    names: Sequence[str]

    def __init__(self, flags: Flags, home: Shared) -> None:
        self._flags, self._home = flags, home
        self._hints = get_type_hints(train.Flags)
        self._load = lru_cache(datasets.load)

    def config(self, point: Name) -> Config:
        """Return the run of a point, in its folder."""
        flags = self._at(point)
        data = self._load(flags.data, flags.data_dir, flags.size, flags.channels)
        return train.config(flags, data)

    def _at(self, point: Name) -> Flags:
        flags = axes.at_point(self._flags, self._hints, self.names, point)
        return replace(flags, out=self._home.out / self._folder(point), resume=True)

    def _folder(self, point: Name) -> str:
        return axes.folder_name(self.names, point)

    def check(self, point: Name) -> Goal | None:
        """Return when a point is finished, or None if its network cannot be made.

        Raises:
            InputError: If its settings are wrong, or its folder holds another run.
        """
        flags = self._at(point)
        for name, given in (("model", flags.model or flags.spec), ("data", flags.data)):
            if not given:
                raise InputError(f"{name} is missing: give --{name}, or --over {name}=A,B")
        with results.naming((axes.label(self.names, point),)):
            flags.check()
        self._load(flags.data, flags.data_dir, flags.size, flags.channels)
        train.named_network(flags)
        try:
            made = self.config(point)
        except Exception:  # it is made again, and named, when it is its turn
            return None
        with results.naming((axes.label(self.names, point),)):
            made.check()
            points.check_folder(made, self._home.folder / self._folder(point))
        return Goal.of(made)


def summarize(flags: Flags, home: Shared, rows: Sequence[Row], objective: str | None) -> None:
    """Print the table, and write it as CSV with the learning curves of the best points."""
    if objective is not None:
        rows = sweep_table.ordered(rows, objective, is_maximized(objective))
    part = "validation" if flags.validate else "test"
    seeds = flags.seeds
    over = f"mean ± standard deviation over {seeds} seeds" if seeds > 1 else f"seed {flags.seed}"
    sweep_table.table(rows, f"{home.out}: {over}", part, objective).show()
    out = home.folder
    files.write_atomic(out / "sweep.csv", runs.to_csv([row.plain() for row in rows]))
    if objective is None:  # a grid, whose table keeps its order
        accuracy = "validation_accuracy"
        best = accuracy if any(accuracy in row.plain() for row in rows) else "validation_loss"
        rows = sweep_table.ordered(rows, best, is_maximized(best))
    drawn = [{"run": row.folder} for row in rows if row.line][: len(runs.COLORS)]
    with contextlib.suppress(InputError):  # no run has two lines of metrics
        runs.draw(out, drawn, out)
    home.publish(out / "sweep.csv", *out.glob("curves.*"))
    if any(row.status in ("running", "stopped", "waiting") for row in rows):
        print("some points are not finished: the same command trains the rest", file=sys.stderr)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
