"""List the runs in a folder: status, best measure, rate.

    python -m experiments.runs runs

A run is a folder with a `run.json`, at any depth. Its status is "running" while a process holds its
lock, "finished" when its metrics end with a final line, "diverged" when a loss, gradient or
update was not finite, and "stopped" otherwise: `--resume` continues it.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any

import tyro
from etils import epy

from cnn.errors import InputError
from experiments.harness import cli
from experiments.harness.tables import Table

with epy.lazy_imports():
    from cnn.train import files, run_dir


@dataclass(frozen=True)
class Flags:
    """Where to look."""

    folder: Annotated[Path, tyro.conf.Positional] = Path("runs")
    """Folder that holds run folders."""


def main(flags: Flags) -> None:
    """Print the table. Raise `InputError` if the folder does not exist or holds no run."""
    if not flags.folder.is_dir():
        raise InputError(f"folder {str(flags.folder)!r} does not exist: name one that holds runs")
    runs = sorted(path.parent for path in flags.folder.rglob(run_dir.RUN))
    if not runs:
        raise InputError(f"folder {str(flags.folder)!r} holds no run: name one that does")
    table(flags.folder, runs).show()


def table(folder: Path, runs: list[Path]) -> Table:
    """Return a row per run."""
    columns = ["run", "model", "data", "status", "step", "best", "steps/s"]
    return Table(f"Runs in {folder}", columns, [row(folder, run) for run in runs])


def row(folder: Path, run: Path) -> list[str]:
    """Return the row of one run, "unreadable" where a file is broken."""
    name = str(run.relative_to(folder))
    try:
        described = files.read_json(run / run_dir.RUN)
        lines = run_dir.read_metrics(run)
        step = str(lines[-1]["step"] if lines else 0)
        model = model_name(described)
        data = str(described["data"]["name"])
        cells = [name, model, data, status(run, lines), step, best(lines), rate(lines)]
    except Exception:  # damaged records can raise almost anything
        cells = [name, "–", "–", "unreadable", "–", "–", "–"]
    return [cell if cell.isprintable() else repr(cell) for cell in cells]


def model_name(described: dict[str, Any]) -> str:
    """Return the name that the command gave the model, or else its outermost layer."""
    words = described["command"].replace("=", " ").split()
    named = dict(pairwise(words))
    return str(named.get("--model", described["model"]["layer"]))


def status(run: Path, lines: list[dict[str, Any]]) -> str:
    """Return running, finished, diverged or stopped."""
    if run_dir.is_locked(run):
        return "running"
    if lines and lines[-1].get("final"):
        return "finished"
    return "diverged" if (run / run_dir.DIVERGED).exists() else "stopped"


def best(lines: list[dict[str, Any]]) -> str:
    """Return the best measure there is: accuracy on the test or validation part, or the loss."""
    for part in ("test", "validation"):
        found = [_mean(line.get(f"{part}_accuracy")) for line in lines]
        if known := [value for value in found if value is not None]:
            return f"{100 * max(known):.2f} % {part}"
    losses = [_mean(line.get("train_loss")) for line in lines]
    known = [value for value in losses if value is not None]
    return f"{min(known):.4f} training loss" if known else "–"


def _mean(value: Any) -> float | None:
    """Return the mean over the seeds, None where one of them has none."""
    values = value if isinstance(value, list) else [value]
    return None if None in values else sum(values) / len(values)


def rate(lines: list[dict[str, Any]]) -> str:
    """Return the steps per second between the last two lines of one start."""
    timed = [line for line in lines if not line.get("final")]
    for first, last in zip(timed[-2::-1], timed[::-1], strict=False):
        steps, seconds = last["step"] - first["step"], last["seconds"] - first["seconds"]
        if steps > 0 and seconds > 0:  # it falls where a run was resumed
            return f"{steps / seconds:,.0f}"
    return "–"


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
