"""Arrays that are slow to make, kept in the user's cache folder.

The folder is `$XDG_CACHE_HOME/cnn-biases`, by default `~/.cache/cnn-biases`. It may be deleted at
any time. A file in it that cannot be read, or a folder that cannot be written, costs time and
nothing else.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1  # raise it when the arrays of an old file would be misunderstood


def cached(name: str, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return `make()`, from the file `name` where that was written under the same `key`.

    The key says everything the arrays depend on. Another key replaces the file, so that the folder
    holds one file per name.
    """
    key = f"{FORMAT} {key}"
    arrays = _read(name, key)
    if arrays is None:
        arrays = make()
        _write(name, key, arrays)
    return arrays


def _path(name: str) -> Path:
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cnn-biases" / f"{name}.npz"


def _read(name: str, key: str) -> dict[str, np.ndarray] | None:
    try:
        # The archive holds a CRC-32 of every array, which reading the array checks. No CRC covers
        # the names, so they stand beside the key.
        with _path(name).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            members = sorted(set(file.files) - {"key"})
            if file["key"].tolist() != [key, *members]:
                return None
            return {member: file[member] for member in members}
    except Exception:  # a damaged archive can raise nearly anything, and every time it is made anew
        return None


def _write(name: str, key: str, arrays: dict[str, np.ndarray]) -> None:
    try:
        path = _path(name)
        members: dict[str, Any] = {"key": np.array([key, *sorted(arrays)]), **arrays}
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.NamedTemporaryFile(dir=path.parent, delete=False) as file:
            try:
                np.savez(file, **members)
                file.close()
                os.replace(file.name, path)
            finally:
                Path(file.name).unlink(missing_ok=True)
    except (OSError, RuntimeError):  # not writable, full, or there is no home folder
        pass
