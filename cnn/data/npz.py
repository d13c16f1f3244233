"""Data sets in one `.npz` file of NumPy."""

from __future__ import annotations

import math
import os
import zipfile
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from cnn.data.dataset import Dataset
from cnn.data.files import one_line
from cnn.data.lazy import BUDGET
from cnn.errors import InputError

NAMES = (
    ("x", "y"),
    ("x_train", "y_train", "x_test", "y_test"),
    ("train_x", "train_y", "test_x", "test_y"),
)
"""The names that the arrays may have. The second two may be missing."""
READ_HEADER = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def load(path: str | Path, seed: int = 0) -> Dataset:
    """Return the data set of a file, which `numpy.savez` or `numpy.savez_compressed` has written.

    Its arrays are `x` and `y`; or `x_train`, `y_train`, `x_test` and `y_test`; or `train_x`, and so
    on. They are taken as by `Dataset.from_arrays`, which draws a test part if there is none.
    `classes` and `channel_axis` may hold these arguments of it. Other arrays are not read, and no
    pickle is.

    Raises:
        InputError: If the file is damaged, lacks an array, holds more than 4 GiB, or its arrays do
            not make a data set.
    """
    path = os.path.expanduser(path)
    where = repr(path)
    try:
        with open(path, "rb") as raw, zipfile.ZipFile(raw) as archive:
            known = {name.removesuffix(".npy") for name in archive.namelist()}
            names = _choose(where, known)
            taken = [*names, *sorted({"classes", "channel_axis"} & known)]
            _check_sizes(where, archive, taken)
            raw.seek(0)
            with np.load(raw, allow_pickle=False) as file:
                arrays = {name: file[name] for name in taken}
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {where}: {error.strerror or error}") from error
    except Exception as error:  # a damaged archive can raise almost anything
        raise InputError(f"{where} is no .npz file, or a damaged one: {one_line(error)}") from error
    x, y, *test = (arrays[name] for name in names)
    pair = (test[0], test[1]) if test else None
    axis = arrays["channel_axis"].tolist() if "channel_axis" in arrays else None
    try:
        return Dataset.from_arrays(
            x,
            y,
            pair,
            name=Path(path).stem,
            classes=arrays.get("classes"),
            channel_axis=axis,
            seed=seed,
        )
    except InputError as error:
        raise InputError(f"{where}: {error}") from error


def _choose(where: str, known: set[str]) -> tuple[str, ...]:
    """Return the names of the arrays: of inputs and targets, and those of the test part."""
    found = [names for names in NAMES if known.intersection(names)]
    if len(found) == 1:
        (names,) = found
        if known.issuperset(names):
            return names
        if known.intersection(names) == set(names[:2]):
            return names[:2]
    raise InputError(
        f"{where} must hold arrays x and y, or x_train, y_train, x_test and y_test, got "
        f"{sorted(known)[:12]}"
    )


def _check_sizes(where: str, archive: zipfile.ZipFile, names: list[str]) -> None:
    """Raise `InputError` if the headers of the arrays name more bytes than a set may have."""
    total = 0
    for name in names:
        with archive.open(f"{name}.npy") as member:
            version = npy.read_magic(member)
            if version not in READ_HEADER:
                raise InputError(f"array {name} of {where} must be plain numbers or strings")
            shape, _, dtype = READ_HEADER[version](member)
        if dtype.hasobject:
            raise InputError(
                f"array {name} of {where} must be numbers or strings, got objects, which are not "
                "read: save it with astype(str) or as numbers"
            )
        total += math.prod(shape) * dtype.itemsize
    if total > BUDGET:
        raise InputError(
            f"arrays of {where} must have at most {BUDGET / 2**30:g} GiB together, got "
            f"{total / 2**30:.3g} GiB: use a folder of images or a TFDS set, which are read step "
            "by step, or give the arrays to Dataset.from_arrays"
        )
