"""The runs in a folder as rows of a table."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

from cnn.buckets import bucket_path
from cnn.errors import InputError
from cnn.train.display import rows_html
from cnn.train.files import read_json
from cnn.train.mirror import copied
from cnn.train.run_dir import DIVERGED, RUN, is_locked, read_metrics

Row = dict[str, Any]
STATUSES = ("running", "finished", "stopped", "diverged", "unreadable")


class Rows(list[Row]):
    """Rows that a notebook shows as a table of their main columns."""

    def _repr_html_(self) -> str:
        return rows_html(self)


def list_runs(folder: str | Path) -> list[Row]:
    """Return a row for each run in `folder`, at any depth, as `pandas.DataFrame` takes them.

    A row has the run's path, model, data, status and step; the fields of the recipe; the newest
    value of every measure (`train_loss`, `validation_accuracy`, ...), a mean over the seeds; the
    number of parameters, if it is finished; steps per second; `mfu`, the model FLOP utilization, if
    the peak rate of the devices is known; and `best`, the highest accuracy or
    else the lowest loss on validation or test data, with its name in `best_of`. Values are numbers
    or text. A run whose files are damaged has a path, and the status "unreadable".

    A run is "running" while a process holds its lock, "finished" when its metrics end with a final
    line, "diverged" when a loss, gradient or update was not finite, and "stopped" otherwise.

    Raises:
        InputError: If the folder does not exist or holds no run.
    """
    if bucket := bucket_path(str(folder)):
        with copied(bucket) as copy:
            return list_runs(copy)
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(f"folder {str(folder)!r} does not exist: name one that holds runs")
    runs = sorted(path.parent for path in folder.rglob(RUN))
    if not runs:
        raise InputError(f"folder {str(folder)!r} holds no run: name one that does")
    return Rows(_row(folder, run) for run in runs)


def _row(folder: Path, run: Path) -> Row:
    name = str(run.relative_to(folder))
    try:
        described, lines = read_json(run / RUN), read_metrics(run)
        row = {
            "run": name,
            "model": _model_name(described),
            "data": str(described["data"]["name"]),
            "status": _status(run, lines),
            "step": lines[-1]["step"] if lines else 0,
        }
        recipe = described.get("recipe", {})
        row |= {key: _flat(value) for key, value in recipe.items() if key not in row}
        measured = _newest(lines)
        row |= {key: value for key, value in measured.items() if key not in row}
        return {**row, **_best(lines), "steps_per_second": _rate(lines)}
    except Exception:  # damaged records can raise almost anything
        return {"run": name, "status": "unreadable"}


def _model_name(described: dict[str, Any]) -> str:
    """Return the name that the command gave the model, or else its outermost layer."""
    words = described["command"].replace("=", " ").split()
    return str(dict(pairwise(words)).get("--model", described["model"]["layer"]))


def _status(run: Path, lines: list[dict[str, Any]]) -> str:
    if is_locked(run):
        return "running"
    if lines and lines[-1].get("final"):
        return "finished"
    return "diverged" if (run / DIVERGED).exists() else "stopped"


def _flat(value: Any) -> Any:
    """Return a value that can be compared and hashed: lists become text."""
    return ",".join(map(str, value)) if isinstance(value, list | tuple) else value


def _newest(lines: list[dict[str, Any]]) -> dict[str, float | int]:
    """Return the newest number of each measure."""
    found: dict[str, float | int] = {}
    for line in lines:
        for name in ("parameters", "seconds", "mfu"):
            if name in line:
                found[name] = line[name]
        for name, value in line.items():
            if name.startswith(("train_", "validation_", "test_")):
                mean = _mean(value)
                if mean is not None:
                    found[name] = mean
    return found


def _best(lines: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the best measure there is: on test or validation data, or else in training."""
    for part in ("test", "validation", "train"):
        for name, choose in ((f"{part}_accuracy", max), (f"{part}_loss", min)):
            if part == "train" and choose is max:
                continue
            means = [_mean(line[name]) for line in lines if name in line]
            if known := [mean for mean in means if mean is not None]:
                return {"best": choose(known), "best_of": name}
    return {}


def _mean(value: Any) -> float | None:
    """Return the mean over the seeds; None where one has none, or where it is no number."""
    values = value if isinstance(value, list) else [value]
    if None in values or any(isinstance(each, list) for each in values):
        return None
    return float(sum(values) / len(values))


def _rate(lines: list[dict[str, Any]]) -> float | None:
    """Return the steps per second between the last two lines of one start."""
    timed = [line for line in lines if not line.get("final")]
    for first, last in zip(timed[-2::-1], timed[::-1], strict=False):
        steps, seconds = last["step"] - first["step"], last["seconds"] - first["seconds"]
        if steps > 0 and seconds > 0:  # it falls where a run was resumed
            return float(steps / seconds)
    return None
