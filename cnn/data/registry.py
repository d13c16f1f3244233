"""Data sets by name."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from cnn.data import builtin, tfds
from cnn.data.dataset import Dataset
from cnn.errors import InputError, unknown_name

BUILT_IN = {"digits": builtin.load_digits, "mnist1d": builtin.load_mnist1d}


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Return the data set of this name. Nothing is downloaded.

    Args:
        name: `mnist1d` or `digits`, which are built in, or any image-classification set that TFDS
            has prepared in `data_dir` (`cnn.data.tfds` says which ones can be read).
        data_dir: By default the environment variable `CNN_DATA_DIR`, or `~/tensorflow_datasets`.

    Raises:
        InputError: If there is no set of this name, or it cannot be read.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    root = data_root(data_dir)
    folders = tfds.prepared(root)
    if name in folders:
        return tfds.load(name, folders[name])
    unknown = unknown_name("data set", name, [*BUILT_IN, *folders])
    missing = f"{root}/{name}/VERSION/dataset_info.json" if root.is_dir() else f"{root} (no folder)"
    raise InputError(
        f"{unknown} (looked for {missing}; prepare a TFDS set with: "
        f"python -m experiments.prepare {shlex.quote(name)} --data-dir {shlex.quote(str(root))})"
    )


def names(data_dir: str | Path | None = None) -> list[str]:
    """Return the names that `load` accepts: the built-in sets and those prepared in `data_dir`."""
    return sorted({*BUILT_IN, *tfds.prepared(data_root(data_dir))})


def data_root(data_dir: str | Path | None) -> Path:
    """Return the folder of prepared sets: `data_dir`, `CNN_DATA_DIR`, or the default of TFDS."""
    folder = Path(data_dir or os.environ.get("CNN_DATA_DIR") or "~/tensorflow_datasets")
    try:
        return folder.expanduser()
    except RuntimeError as error:
        raise InputError(
            f"data_dir must not begin with ~ without a home folder, got {str(folder)!r}: give "
            "data_dir or CNN_DATA_DIR in full"
        ) from error
