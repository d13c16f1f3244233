"""Cache arrays that are slow to make in the user's cache folder.

The folder is `$XDG_CACHE_HOME/cnn-biases`, by default `~/.cache/cnn-biases`. It may be deleted.
Damaged files are made again, and a read-only folder is no error.
"""

from __future__ import annotations

import os
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

FORMAT = 1  # increase it when the meaning of the arrays in a file changes


def cached(name: str, key: str, make: Callable[[], dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return `make()`, or the arrays in file `name` if they were written with the same `key`.

    The key names everything that the arrays depend on. A new key replaces the file.
    """
    key = f"{FORMAT} {key}"
    arrays = _read(name, key)
    if arrays is None:
        arrays = make()
        _write(name, key, arrays)
    return arrays


def cache_folder() -> Path:
    """Return the cache folder. Raise `RuntimeError` if it is in a home folder that is not known."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "cnn-biases"


def _path(name: str) -> Path:
    return cache_folder() / f"{name}.npz"


def _read(name: str, key: str) -> dict[str, np.ndarray] | None:
    try:
        # The archive has a CRC-32 of every array, checked on reading. No CRC covers the names, so
        # the key entry holds them too. `_write` packs nothing; what is packed could unpack to any
        # size.
        with _path(name).open("rb") as raw, np.load(raw, allow_pickle=False) as file:
            if any(one.compress_type != zipfile.ZIP_STORED for one in file.zip.infolist()):
                return None
            names = sorted(set(file.files) - {"key"})
            if file["key"].tolist() != [key, *names]:
                return None
            return {each: file[each] for each in names}
    except Exception:  # a damaged archive can raise almost anything
        return None


def _write(name: str, key: str, arrays: dict[str, np.ndarray]) -> None:
    try:
        path = _path(name)
        entries: dict[str, Any] = {"key": np.array([key, *sorted(arrays)]), **arrays}
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent) as folder:
            np.savez(Path(folder) / path.name, **entries)
            os.replace(Path(folder) / path.name, path)
    except (OSError, RuntimeError):  # read-only, full, or there is no home folder
        pass
