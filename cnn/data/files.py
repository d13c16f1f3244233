"""Data sets in files: small ones are decoded once and cached, large ones are read when needed."""

from __future__ import annotations

import hashlib
import math
import os
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
from etils import epy
from jaxtyping import Float32, Int, Int32, UInt8

from cnn.data.cache import cached
from cnn.data.lazy import LazyArray, fits_budget
from cnn.data.split import Parts, Split
from cnn.data.standardize import standardized, statistics_of_bytes
from cnn.errors import InputError

with epy.lazy_imports():  # slow to import, and not needed for a set that is cached
    import rich.console
    import rich.progress

SAMPLE = 10_000
"""Evenly spaced images from which the statistics of a lazy set are computed."""

CHUNK = 2**26
"""Bytes of these images that are in memory at a time."""

T = TypeVar("T")


class Reader(Protocol):
    """Reads the examples of one part by row number. Several threads may call it at once."""

    def __len__(self) -> int: ...

    def images(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width channels"]:
        """Return the decoded images of these rows."""
        ...

    def targets(self) -> Int32[np.ndarray, " n"] | Float32[np.ndarray, "n *target outputs"]:
        """Return all targets without decoding the images."""
        ...

    def read_all(
        self,
    ) -> tuple[UInt8[np.ndarray, "n height width channels"], np.ndarray]:
        """Return all decoded images and all targets."""
        ...


class Source(NamedTuple):
    """A set that is open for reading."""

    train: Reader
    test: Reader
    classes: tuple[str, ...]
    notice: str = ""
    """What the user should know of how the files were taken. It is printed when they are read."""


def load_parts(file: str, key: str, open_source: Callable[[], Source]) -> Parts:
    """Return the parts of a set. What was decoded is kept in the cache `file` for equal `key`s.

    A set beyond the budget of `cnn.data.lazy` stays in its files. Its targets are cached.
    """
    arrays = cached(file, key, lambda: _read(open_source()))
    classes = tuple(str(label) for label in arrays["classes"])
    if "train_x" in arrays:
        train, test = ((arrays[f"{part}_x"], arrays[f"{part}_y"]) for part in ("train", "test"))
        return standardized(train, test, classes)
    mean, std, example = (tuple(arrays[name].tolist()) for name in ("mean", "std", "example"))
    source = open_source()

    def lazy(part: str, reader: Reader) -> Split:
        y = arrays[f"{part}_y"]
        name = f"{file} {key} {part}"
        return Split(LazyArray(name, reader.images, np.arange(len(y)), example, mean, std), y)

    return Parts(lazy("train", source.train), lazy("test", source.test), classes, mean, std)


def _read(source: Source) -> dict[str, np.ndarray]:
    """Return the arrays to cache."""
    if source.notice:
        print(source.notice, file=sys.stderr)
    arrays = {"classes": np.array(source.classes, dtype=str)}
    train, test = source.train, source.test
    example = train.images(np.arange(1)).shape[1:]
    if fits_budget(len(train), example):
        for part, reader in (("train", train), ("test", test)):
            arrays[f"{part}_x"], arrays[f"{part}_y"] = reader.read_all()
        return arrays
    sample = np.linspace(0, len(train) - 1, min(len(train), SAMPLE)).astype(int)
    rows = max(1, CHUNK // math.prod(example))
    parts = (train.images(sample[i : i + rows]) for i in range(0, len(sample), rows))
    mean, std = statistics_of_bytes(parts)
    arrays |= {"mean": mean, "std": std, "example": np.array(example)}
    return arrays | {"train_y": train.targets(), "test_y": test.targets()}


def choose_parts(name: str, found: Iterable[str]) -> tuple[list[str], str]:
    """Return which of the parts that a set has are training data, and which one is test data.

    Without `test`, `validation` (or `val`) is the test data. With both, it joins the training data.

    Raises:
        InputError: If there is no such choice, or more than one.
    """
    parts = set(found)
    others = [part for part in ("test", "validation", "val") if part in parts]
    if "train" not in parts or not others or {"validation", "val"} <= parts:
        raise InputError(
            f"data set {name!r} needs a split 'train', and 'test' or 'validation', got "
            f"{sorted(parts)}"
        )
    return ["train", *others[1:]], others[0]


def cache_name(name: str, path: str | Path) -> str:
    """Return the name of the cache file of the set at this path."""
    where = hashlib.sha256(os.fsencode(os.path.realpath(path))).hexdigest()[:12]
    return f"{''.join(c if c.isalnum() or c in '_-.' else '-' for c in name)[:60]}-{where}"


def files_state(root: str | Path, files: Iterable[str | Path]) -> str:
    """Return a hash of the names below `root`, the sizes and the times of change of files."""
    digest = hashlib.sha256()
    for file in files:
        stat = os.stat(file)
        digest.update(os.fsencode(os.path.relpath(file, root)))
        digest.update(f"\0{stat.st_size} {stat.st_mtime_ns}\0".encode())
    return digest.hexdigest()


def progress(steps: Iterable[T], total: int, description: str) -> Iterable[T]:
    """Return the steps, with a progress bar on a terminal."""
    return rich.progress.track(
        steps,
        total=total,
        description=description,
        console=rich.console.Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    )


def one_line(error: Exception) -> str:
    """Return type and message of an error that another library raised."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
