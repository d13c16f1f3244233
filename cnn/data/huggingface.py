"""Data sets of Hugging Face `datasets` in a folder that `save_to_disk` has written.

Nothing is downloaded, and no code of the set is run. The package is needed, the extra
`huggingface`.
"""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from etils import epy

from cnn.data.cache import cached
from cnn.data.class_folders import resolved
from cnn.data.dataset import Dataset
from cnn.data.encoded import EncodedImages, Headers
from cnn.data.files import Source, cache_name, choose_parts, files_state, load_parts, one_line
from cnn.data.images import Size, checked_size
from cnn.data.images import Source as Encoded
from cnn.data.labels import encode
from cnn.data.split import Parts, split_by_seed
from cnn.errors import InputError

with epy.lazy_imports():  # slow to import, and may be absent
    import datasets


def load(
    path: str | Path, size: Sequence[int] | None = None, channels: int | None = None, seed: int = 0
) -> Dataset:
    """Return the data set of a folder that `save_to_disk` has written.

    The inputs are its one column of type `Image`, or its one column of arrays (`Array2D` and so
    on), which is taken as by `Dataset.from_arrays`. The targets are its one column of `ClassLabel`,
    or its one other column of floats. It has the splits `train` and `test` or `validation`, as in
    `Dataset.from_folder`; or one, of which `seed` draws a fifth of every class as test data.

    Args:
        path: The folder. Its name is the name of the data set.
        size: Height and width to which whole images are resized, as in `Dataset.from_folder`.
        channels: From 1 to 4, as in `Dataset.from_folder`.
        seed: Draws the test part.

    Raises:
        InputError: If the package is missing, or the folder does not say what the data set is.
    """
    size = checked_size(size, channels)
    root = resolved(path)
    name = os.path.basename(root)
    if importlib.util.find_spec("datasets") is None:
        raise InputError(
            "a Hugging Face data set needs the package datasets: make install EXTRA=huggingface, "
            "or pip install 'cnn-biases[huggingface]'"
        )
    splits = _splits(root)
    features = splits[0].features
    x, y = choose_columns(root, features)
    named = [f"{y} of {root!r}, {part}" for part in ("train", "test")]
    targets = {part: _column(part, split, y) for part, split in zip(named, splits, strict=False)}
    classes = getattr(features[y], "names", None)
    if isinstance(features[x], datasets.Image):
        encoded, names = encode(targets, classes)
        tables = [split.select_columns([x]) for split in splits]
        parts = _image_parts(root, tables, list(encoded.values()), names, size, channels, seed)
        return Dataset(name, *parts)
    if size is not None or channels is not None:
        raise InputError(f"size and channels are for images, got arrays in {root!r}")
    inputs = [_column(f"{x} of {root!r}", split, x) for split in splits]
    first, *last = zip(inputs, targets.values(), strict=True)
    try:
        return Dataset.from_arrays(
            *first, last[0] if last else None, name=name, classes=classes, seed=seed
        )
    except InputError as error:
        raise InputError(f"{root!r}: {error}") from error


def choose_columns(where: str, features: Any) -> tuple[str, str]:
    """Return the names of the columns that are inputs and targets.

    Raises:
        InputError: If there is none, or there are several.
    """
    arrays = (datasets.Array2D, datasets.Array3D, datasets.Array4D, datasets.Array5D)
    x = [key for key, each in features.items() if isinstance(each, datasets.Image)]
    x = x or [key for key, each in features.items() if isinstance(each, arrays)]
    y = [key for key, each in features.items() if isinstance(each, datasets.ClassLabel)]
    y = y or [key for key, each in features.items() if key not in x and _is_float(each)]
    for what, found in (("Image or array", x), ("ClassLabel or float", y)):
        if len(found) != 1:
            raise InputError(
                f"data set {where!r} must have one column of type {what}, got {len(found)} in "
                f"{sorted(features)}: choose with select_columns, or convert with cast_column"
            )
    return x[0], y[0]


def _is_float(feature: Any) -> bool:
    while isinstance(feature, datasets.List | datasets.LargeList):
        feature = feature.feature
    return str(getattr(feature, "dtype", "")).startswith("float")


def _splits(root: str) -> list[Any]:
    """Return the training part, and the test part if there is one."""
    if not os.path.isdir(root):
        raise InputError(f"cannot read {root!r}: there is no such folder")
    try:
        stored = datasets.load_from_disk(root)
    except Exception as error:  # anything that damaged files can raise
        raise InputError(
            f"{root!r} is no data set that save_to_disk has written, or a damaged one: "
            f"{one_line(error)}"
        ) from error
    if isinstance(stored, datasets.Dataset):
        return [stored]
    if list(stored) == ["train"]:
        return [stored["train"]]
    train, test = choose_parts(root, stored)
    if any(stored[part].features != stored[test].features for part in train):
        raise InputError(f"splits of {root!r} must have the same columns and types")
    return [datasets.concatenate_datasets([stored[part] for part in train]), stored[test]]


def _column(name: str, table: Any, key: str) -> np.ndarray:
    if table.data.column(key).null_count:
        raise InputError(f"{name} must have a value in every row, got empty ones")
    return np.asarray(table.select_columns([key]).with_format("numpy")[:][key])


def _image_parts(
    root: str,
    tables: list[Any],
    y: list[np.ndarray],
    classes: tuple[str, ...],
    size: Size | None,
    channels: int | None,
    seed: int,
) -> Parts:
    """Return the parts of tables with one column of images, and of their targets."""
    table = datasets.concatenate_datasets(tables)
    (key,) = table.features
    table = table.cast_column(key, datasets.Image(decode=False))

    def get(row: int) -> Encoded:
        image = table[row][key]
        return image["bytes"] or image["path"]

    every = EncodedImages(
        get=get,
        describe=lambda row: f"image {row} of {root!r}",
        rows=np.arange(len(table)),
        y=np.concatenate(y),
    )
    name, file = os.path.basename(root), cache_name(os.path.basename(root), root)
    state = files_state(root, sorted(f"{f}/{n}" for f, _, names in os.walk(root) for n in names))

    def open_source() -> Source:
        headers = Headers(**cached(f"{file}-headers", state, lambda: every.headers()._asdict()))
        uniform = every.uniform(headers, size, channels)
        train, test = np.split(np.arange(len(every)), [len(y[0])])
        if len(y) == 1:
            train, test = split_by_seed(every.y, seed)
        notice = f"{name}: {uniform.describe_sizes(headers)}"
        return Source(uniform.take(train), uniform.take(test), classes, notice)

    return load_parts(file, f"{state} {size} {channels} {seed}", open_source)
