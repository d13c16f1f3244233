"""Run folders: what they hold, who may start in them and works in them, JSON lines."""

from __future__ import annotations

import json
import logging
import os
import platform
import shutil
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from importlib import metadata
from pathlib import Path
from typing import Any, ParamSpec

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn.errors import InputError, RunError

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"
DIVERGED, LOCK, PART = "diverged.json", ".lock", ".part"
logger = logging.getLogger(__name__)


def check_folder(out: Path, resume: bool, overwrite: bool) -> None:
    """Raise `InputError` if a run may not start in `out`. Writes nothing.

    It may if nothing stands there yet, or if the caller says what to do with the run that does.
    """
    parent = out.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"out {str(out)!r} cannot be written: choose a folder of your own")
    if not out.exists() or all(path.name.startswith(".") for path in out.iterdir()):
        return
    if not (out / RUN).exists():
        raise InputError(f"out {str(out)!r} holds something that is not a run: choose another")
    if not (resume or overwrite):
        raise InputError(f"out {str(out)!r} holds a run: say --resume or --overwrite")


P = ParamSpec("P")


def _all_come() -> None:
    if jax.process_count() > 1:
        multihost_utils.sync_global_devices("records")


def by_one(write: Callable[P, None]) -> Callable[P, None]:
    """Let process 0 alone write; no process begins before all have come, or goes on before."""

    @wraps(write)
    def written_by_one(*args: P.args, **kwargs: P.kwargs) -> None:
        _all_come()
        if jax.process_index() == 0:
            write(*args, **kwargs)
        _all_come()

    return written_by_one


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Hold the run folder, which is made if it is not there, against other processes.

    The system gives the lock back when a process ends, however it ends. Raises `InputError` if
    another process trains in the folder, or it cannot be made.
    """
    from filelock import FileLock, Timeout

    if jax.process_index() > 0:  # process 0 holds it for all
        yield
        return
    make_folder(out)
    try:
        with FileLock(out / LOCK, timeout=0):
            for left in out.glob(f".*{PART}"):  # by a process that was killed
                left.unlink()
            yield
    except Timeout:
        raise InputError(
            f"out {str(out)!r} is in use by another process: wait until it ends, or choose another"
        ) from None


def is_locked(out: Path) -> bool:
    """Say whether a process trains in the run folder."""
    from filelock import FileLock, Timeout

    if not (out / LOCK).exists():
        return False
    try:
        with FileLock(out / LOCK, timeout=0):
            return False
    except Timeout:
        return True
    except OSError:  # a folder to read only: nobody trains in it
        return False


@by_one
def describe_run(out: Path, description: dict[str, Any], overwrite: bool) -> None:
    """Write `run.json` into the folder if it has none, after emptying the folder if `overwrite`."""
    if overwrite and (out / RUN).exists():
        for path in out.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name != LOCK:
                path.unlink()
    if not (out / RUN).exists():
        write_atomic(out / RUN, json.dumps({**description, **environment()}, indent=1) + "\n")


def make_folder(out: Path) -> None:
    """Make a folder to write to; raise `InputError` if it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_atomic(out / ".probe", "")
        (out / ".probe").unlink()
    except OSError as error:
        raise InputError(
            f"out {str(out)!r} cannot be written ({error.strerror}): choose a folder of your own"
        ) from error


def environment() -> dict[str, Any]:
    """Return what a result depends on besides its configuration: versions, machine, command."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": " ".join(sys.orig_argv[1:]),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "devices": [device.device_kind for device in jax.devices()],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git": revision(Path(__file__).parent),
    }


def revision(folder: Path) -> dict[str, Any] | None:
    """Return the commit that `folder` is at and whether files differ from it, None without git."""

    def git(*args: str) -> str:
        command = ["git", "-C", str(folder), *args]
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
        return done.stdout.strip()

    try:
        return {"commit": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.SubprocessError):
        return None


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}{PART}")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


def finite_only(values: np.ndarray) -> Any:
    """Return numbers as JSON, which has no infinity and no NaN: None in their place."""
    plain = np.array(values, object)
    plain[~np.isfinite(values)] = None
    return plain.tolist()


@by_one
def append_jsonl(path: Path, record: dict[str, Any]) -> None:
    """Append one record as a line of JSON, whole or not at all. Raises `RunError` if not."""
    left = json.dumps(record).encode() + b"\n"
    with path.open("ab", buffering=0) as file:
        size = file.tell()
        try:
            while left:
                left = left[file.write(left) :]
        except OSError as error:
            os.truncate(path, size)
            raise RunError(f"{path} cannot be written ({error.strerror}): make room") from error


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line that was cut off while being written is left out."""
    if not path.exists():
        return []
    whole, _, rest = path.read_bytes().rpartition(b"\n")
    if rest:
        logger.warning("%s: its last line is incomplete and left out", path)
    return [json.loads(line) for line in whole.splitlines()]


@by_one
def remove(path: Path) -> None:
    """Remove a file if it is there."""
    path.unlink(missing_ok=True)


@by_one
def rename(path: Path, target: Path) -> None:
    """Rename a file or folder; the folder that it comes into is made."""
    target.parent.mkdir(exist_ok=True)
    os.replace(path, target)


@by_one
def rewind(path: Path, step: int) -> None:
    """Drop the records after `step`, which a resumed run will make again, and any final one."""
    kept = [r for r in read_jsonl(path) if r["step"] <= step and not r.get("final")]
    write_atomic(path, "".join(json.dumps(r) + "\n" for r in kept))
