"""Run folders: their files, who may use them, and their lock."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import wraps
from importlib import metadata
from pathlib import Path, PurePath
from typing import Any, ParamSpec

import jax
import numpy as np
from filelock import FileLock, Timeout
from jax.experimental import multihost_utils

from cnn.errors import InputError
from cnn.ops.implementations import described
from cnn.train.agreement import on_process_zero
from cnn.train.files import PART, append_jsonl, read_jsonl, write_atomic

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"
DIVERGED, LOCK, CORRUPT = "diverged.json", ".lock", "corrupt"
OVERWRITTEN = json.dumps({"overwritten": True})
"""Content of `run.json` while the folder of a run is emptied."""
P = ParamSpec("P")


def check_folder(out: Path, resume: bool, overwrite: bool) -> None:
    """Raise `InputError` if a run may not start in `out`. Write nothing.

    It may start in a new or empty folder, or in the folder of a run to resume or overwrite.
    """
    check_name(out.absolute())
    parent = out.absolute()
    try:
        while not parent.exists():
            parent = parent.parent
    except OSError as error:  # a name that is too long
        raise _unusable(out, error) from error
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"out {str(out)!r} cannot be written: choose another folder")
    check_kinds(out, files=(RUN, METRICS, DIVERGED, LOCK), folders=(CHECKPOINTS, CORRUPT))
    check_content(out, [p.name for p in out.iterdir()] if out.exists() else [], resume, overwrite)


def check_name(out: PurePath) -> None:
    """Raise `InputError` for a name that Orbax would take for a pattern."""
    if any(sign in str(out) for sign in "*?["):
        raise InputError(f"out must not contain * ? or [, got {str(out)!r}: rename it")


def check_content(out: PurePath, names: Iterable[str], resume: bool, overwrite: bool) -> None:
    """Raise `InputError` if a run may not start in a folder with these `names`."""
    visible = {name for name in names if not name.startswith(".")}
    if not visible:
        return
    if RUN not in visible:
        raise InputError(f"out {str(out)!r} contains something that is not a run: choose another")
    if not (resume or overwrite):
        raise InputError(f"out {str(out)!r} contains a run: add --resume or --overwrite")


def check_kinds(out: Path, files: Sequence[str], folders: Sequence[str] = ()) -> None:
    """Raise `InputError` for a name in `out` that is something else than a file, or a folder."""
    for names, kind, is_kind in ((files, "file", Path.is_file), (folders, "folder", Path.is_dir)):
        for path in (out / name for name in names):
            if path.exists() and not is_kind(path):
                raise InputError(f"{str(path)!r} must be a {kind}: move it away")


def process_zero_only(write: Callable[P, None]) -> Callable[P, None]:
    """Let only process 0 call `write`; all wait for each other before and after, and for errors."""

    @wraps(write)
    def written_by_zero(*args: P.args, **kwargs: P.kwargs) -> None:
        if jax.process_count() > 1:
            multihost_utils.sync_global_devices("run_dir")
        on_process_zero(lambda: write(*args, **kwargs))

    return written_by_zero


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Create the run folder if needed, and lock it until the process ends, however it ends.

    Process 0 holds the lock for all.

    Raises:
        InputError: If another process uses the folder, or it cannot be created.
    """
    with ExitStack() as stack:

        def lock() -> None:
            make_folder(out)
            try:
                stack.enter_context(FileLock(out / LOCK, timeout=0))
            except Timeout:
                why = "is in use by another process: wait until it ends, or choose another"
                raise InputError(f"out {str(out)!r} {why}") from None
            for part in out.glob(f".*{PART}"):  # left by a process that was killed
                part.unlink()

        on_process_zero(lock)
        yield


def is_locked(out: Path) -> bool:
    """Return whether a process uses the run folder."""
    if not (out / LOCK).exists():
        return False
    try:
        with FileLock(out / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # nobody can train in a read-only folder
        return False


@process_zero_only
def describe_run(out: Path, description: dict[str, Any], overwrite: bool) -> None:
    """Write `run.json` unless it exists. If `overwrite`, first empty the folder of a run.

    A process that is killed meanwhile leaves a mark, and the next one goes on with emptying.
    """
    run = out / RUN
    if overwrite and run.exists():
        write_atomic(run, OVERWRITTEN)
    emptied = run.exists() and run.read_text(errors="replace") == OVERWRITTEN
    if emptied:
        for path in out.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in (LOCK, RUN):
                path.unlink()
    if emptied or not run.exists():
        write_atomic(run, json.dumps({**description, **environment()}, indent=1) + "\n")


def make_folder(out: Path) -> None:
    """Create a writable folder. Raise `InputError` if that is impossible."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=out).close()
    except OSError as error:
        raise _unusable(out, error) from error


def _unusable(out: Path, error: OSError) -> InputError:
    why = f"cannot be written ({error.strerror}): choose another folder"
    return InputError(f"out {str(out)!r} {why}")


def environment() -> dict[str, Any]:
    """Return what a result depends on besides its settings: versions, machine, implementations."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": " ".join(sys.orig_argv[1:]),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "devices": [device.device_kind for device in jax.devices()],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "implementations": described(),
        "git": _git_revision(Path(__file__).parent),
    }


def _git_revision(folder: Path) -> dict[str, Any] | None:
    """Return the commit of `folder` and whether files differ from it; None without git."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def to_json(values: np.ndarray) -> Any:
    """Return numbers as JSON: None replaces infinity and NaN, which JSON does not have."""
    plain = np.array(values, object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


@process_zero_only
def append_metrics(out: Path, record: dict[str, Any]) -> None:
    """Append a line to the metrics. Raise `RunError` if it does not fit."""
    append_jsonl(out / METRICS, [record])


def read_metrics(out: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics."""
    return read_jsonl(out / METRICS, has_step)


def has_step(record: dict[str, Any]) -> bool:
    """Return whether a line of metrics says the step that it is of."""
    return type(record.get("step")) is int


@process_zero_only
def rewind(out: Path, step: int) -> None:
    """Remove what a run resumed at `step` writes again: later and final metrics, and a report."""
    kept = [r for r in read_metrics(out) if r["step"] <= step and not r.get("final")]
    write_atomic(out / METRICS, "".join(json.dumps(r) + "\n" for r in kept))
    (out / DIVERGED).unlink(missing_ok=True)
