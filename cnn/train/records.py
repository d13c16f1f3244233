"""Run folders: what they hold, who may start in them, JSON lines."""

from __future__ import annotations

import json
import os
import platform
import shutil
import sys
import uuid
from collections.abc import Callable
from functools import wraps
from importlib import metadata
from pathlib import Path
from typing import Any, ParamSpec

import jax
from jax.experimental import multihost_utils

from cnn.errors import InputError

RUN, METRICS, CHECKPOINTS = "run.json", "metrics.jsonl", "checkpoints"


def check_folder(out: Path, resume: bool, overwrite: bool) -> None:
    """Raise `InputError` if a run may not start in `out`. Writes nothing.

    It may if nothing stands there yet, or if the caller says what to do with the run that does.
    """
    parent = out.absolute()
    while not parent.exists():
        parent = parent.parent
    if not parent.is_dir() or not os.access(parent, os.W_OK | os.X_OK):
        raise InputError(f"out {str(out)!r} cannot be written: choose a folder of your own")
    if not out.exists() or not any(out.iterdir()):
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


@by_one
def open_folder(out: Path, description: dict[str, Any], overwrite: bool) -> None:
    """Make the run folder (anew if `overwrite`) and write `run.json` into it if it has none.

    Raises `InputError` if the folder cannot be made.
    """
    if overwrite and (out / RUN).exists():
        shutil.rmtree(out)
    make_folder(out)
    if not (out / RUN).exists():
        write_whole(out / RUN, json.dumps({**description, **surroundings()}, indent=1) + "\n")


def make_folder(out: Path) -> None:
    """Make a folder to write to; raise `InputError` if it cannot be made or written to."""
    try:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(out / ".probe", "")
        (out / ".probe").unlink()
    except OSError as error:
        raise InputError(
            f"out {str(out)!r} cannot be written ({error.strerror}): choose a folder of your own"
        ) from error


def surroundings() -> dict[str, Any]:
    """Return what a result depends on besides its configuration: versions, machine, command."""
    packages = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
    return {
        "command": " ".join(sys.orig_argv[1:]),
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in packages},
        "devices": [device.device_kind for device in jax.devices()],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
    }


def write_whole(path: Path, content: str | bytes) -> None:
    """Write a file so that it appears whole or not at all."""
    part = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        part.write_bytes(content.encode() if isinstance(content, str) else content)
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)


@by_one
def append(path: Path, record: dict[str, Any]) -> None:
    """Append one record as a line of JSON, in a single write."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON lines; a last line that was cut off while being written is left out."""
    if not path.exists():
        return []
    whole, _, _ = path.read_text(encoding="utf-8").rpartition("\n")
    return [json.loads(line) for line in whole.splitlines()]


@by_one
def rewind(path: Path, step: int) -> None:
    """Drop the records after `step`, which a resumed run will make again, and any final one."""
    kept = [r for r in read(path) if r["step"] <= step and not r.get("final")]
    write_whole(path, "".join(json.dumps(r) + "\n" for r in kept))
