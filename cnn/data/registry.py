"""From the name of a data set to its arrays."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

from cnn.data import builtin, tfds
from cnn.data.dataset import Dataset
from cnn.errors import InputError, unknown_name

BUILT_IN = {"digits": builtin.digits, "mnist1d": builtin.mnist1d}


def load(name: str, data_dir: str | Path | None = None) -> Dataset:
    """Return the data set of this name, in memory; nothing is ever downloaded.

    The name is that of a built-in set, `mnist1d` or `digits`, or of any image-classification set
    that TFDS has prepared in `data_dir`, whoever built it (`cnn.data.tfds` says which ones
    can be read). `data_dir` is the environment's `CNN_DATA_DIR` or `~/tensorflow_datasets` unless
    it is given.

    Raises `InputError` where there is no set of this name, or it cannot be read.
    """
    if name in BUILT_IN:
        return BUILT_IN[name]()
    root = data_root(data_dir)
    folders = tfds.folders(root)
    if name in folders:
        return tfds.load(name, folders[name])
    unknown = unknown_name("data set", name, [*BUILT_IN, *folders])
    missing = f"{root}/{name}/VERSION/dataset_info.json" if root.is_dir() else f"{root} (no folder)"
    raise InputError(
        f"{unknown} (not prepared either: looked for {missing}; a TFDS set is prepared by: "
        f"python -m experiments.prepare {shlex.quote(name)} --data-dir {shlex.quote(str(root))})"
    )


def names(data_dir: str | Path | None = None) -> list[str]:
    """Return the names `load` finds: the built-in ones and those prepared in `data_dir`."""
    return sorted({*BUILT_IN, *tfds.folders(data_root(data_dir))})


def data_root(data_dir: str | Path | None) -> Path:
    """Return the folder of prepared sets: the given one, else `CNN_DATA_DIR`, else TFDS's own."""
    return Path(data_dir or os.environ.get("CNN_DATA_DIR") or "~/tensorflow_datasets").expanduser()
