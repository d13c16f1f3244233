"""Read image-classification sets prepared by TFDS, without TensorFlow and without a network.

A prepared folder describes itself, so the code that built the set is not needed, and none is run.
A set can be read if

- it is stored as array_record (only TensorFlow reads tfrecord);
- its features contain one `Image` of 8-bit values, all of one size unless they are resized, and
  one `ClassLabel`. If there are several (CIFAR-100 has fine and coarse labels), the set's
  `supervised_keys` decide;
- it has a `train` split, and a `test` or a `validation` split. Without `test`, `validation` is the
  test data. With both, `validation` is appended to the training data.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePath
from typing import Any, TypeVar

import numpy as np
from etils import epy
from jaxtyping import Int, Int32, UInt8

from cnn.data.dataset import Dataset
from cnn.data.files import (
    Source,
    cache_name,
    choose_parts,
    files_state,
    load_parts,
    one_line,
    progress,
)
from cnn.data.images import MODES, Size, checked_size, decode
from cnn.errors import InputError

with epy.lazy_imports():  # slow to import, and not needed for a set that is built in or cached
    import tensorflow_datasets

P = TypeVar("P", bound=PurePath)

BATCH = 512  # records per read: 1.7 times as fast as single records; larger is not faster


def prepared(data_dir: Path) -> dict[str, Path]:
    """Return the name and newest folder of every set prepared in `data_dir`.

    Names follow the folders: `mnist` for mnist/3.0.1, `emnist/letters` for emnist/letters/3.1.0.
    """
    infos = [*data_dir.glob("*/*/dataset_info.json"), *data_dir.glob("*/*/*/dataset_info.json")]
    return newest_versions(data_dir, infos)


def newest_versions(data_dir: P, infos: Iterable[P]) -> dict[str, P]:
    """Return the name and newest folder of every set, from the files that describe all versions."""
    found: dict[str, P] = {}
    versions = [info.parent for info in infos if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)]
    for folder in sorted(versions, key=lambda f: [int(n) for n in f.name.split(".")]):
        found[folder.parent.relative_to(data_dir).as_posix()] = folder
    return found


def load(
    name: str, folder: Path, size: Sequence[int] | None = None, channels: int | None = None
) -> Dataset:
    """Return the set prepared in `folder`.

    Decoded images are cached until the folder changes. A set beyond the budget of `cnn.data.lazy`
    stays in its files, and only its labels are cached.

    Args:
        name: Name of the data set.
        folder: The folder of one version, with dataset_info.json.
        size: Height and width to which whole images are resized (`cnn.data.images.decode`).
        channels: From 1 to 4, instead of those of the set.

    Raises:
        InputError: If the set cannot be read. The message names a damaged record.
    """
    size = checked_size(size, channels)

    def open_source() -> Source:
        builder = open_folder(name, folder)
        train, test = choose_parts(name, builder.info.splits)
        parts = "+".join(train), test
        first, last = (_Reader(builder, part, size, channels) for part in parts)
        return Source(first, last, tuple(builder.info.features[first.label].names))

    key = f"{files_state(folder, sorted(folder.iterdir()))} {size} {channels}"
    return Dataset(name, *load_parts(cache_name(name, folder), key, open_source))


def open_folder(name: str, folder: Path) -> Any:
    """Return the TFDS builder that reads this folder.

    Raises:
        InputError: If the description is damaged, names code outside TFDS (TFDS would import it),
            or the records are not stored as array_record.
    """
    foreign: set[str] = set()

    def note_class(fields: dict[str, Any]) -> None:
        for key in ("pythonClassName", "python_class_name", "type"):
            value = fields.get(key)
            if isinstance(value, str) and not value.startswith("tensorflow_datasets."):
                foreign.add(value)

    try:
        json.loads((folder / "features.json").read_text(), object_hook=note_class)
        builder = None if foreign else tensorflow_datasets.builder_from_directory(folder)
    except Exception as error:  # anything that reading two damaged files can raise
        raise InputError(
            f"{folder}: dataset_info.json or features.json: {one_line(error)}"
        ) from error
    if builder is None:
        raise InputError(
            f"data set {name!r} must use features of tensorflow_datasets, got {sorted(foreign)}, "
            "whose code is not run"
        )
    stored = sorted(file_format.value for file_format in builder.info.available_file_formats())
    if "array_record" not in stored:
        found = ", ".join(stored) or "tfrecord"  # the format of folders that name none
        raise InputError(
            f"data set {name!r} in {folder} is stored as {found}: prepare it in another folder "
            "with file_format='array_record', as python -m experiments.prepare does"
        )
    return builder


def image_and_label(name: str, info: Any) -> tuple[str, str]:
    """Return the keys of the image and of the label in a TFDS `DatasetInfo`.

    Raises:
        InputError: If there is not exactly one of each, or the image does not have 8-bit values.
    """
    features = dict(info.features)

    def only(kind: type) -> str:
        keys = [key for key, feature in features.items() if type(feature) is kind]
        supervised = [key for key in keys if key in (info.supervised_keys or ())]
        if len(keys) != 1 and len(supervised) != 1:
            raise InputError(
                f"data set {name!r} is not for image classification: it must have one "
                f"{kind.__name__} feature, got {len(keys)} in {sorted(features)}"
            )
        return str((supervised or keys)[0])

    kinds = tensorflow_datasets.features
    image, label = only(kinds.Image), only(kinds.ClassLabel)
    if features[image].np_dtype != np.uint8 or features[image].shape[-1] not in MODES:
        raise InputError(
            f"images of data set {name!r} must be uint8 with 1 to 4 channels, got {features[image]}"
        )
    return image, label


class _Reader:
    """Reads the examples of one split by row number, and names a damaged record."""

    def __init__(self, builder: Any, split: str, size: Size | None, channels: int | None) -> None:
        self.name, self._split = builder.info.name, builder.info.splits[split]
        if not self._split.num_examples:
            raise InputError(f"data set {self.name!r} has no examples in its split {split!r}")
        self._image, self.label = image_and_label(self.name, builder.info)
        raw = {self._image: tensorflow_datasets.decode.SkipDecoding()}
        self._source = builder.as_data_source(split, decoders=raw)
        self._channels = channels or builder.info.features[self._image].shape[-1]
        self._size = size

    def __len__(self) -> int:
        return len(self._source)

    def images(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width channels"]:
        """Return the decoded images of these rows."""
        return self._stack(self._decode(rows.tolist()))

    def targets(self) -> Int32[np.ndarray, " n"]:
        """Return all labels without decoding the images."""
        read = [self._source.__getitems__(rows) for rows in self._batches("reading labels of")]
        return np.array([int(e[self.label]) for batch in read for e in batch], np.int32)

    def read_all(self) -> tuple[np.ndarray, Int32[np.ndarray, " n"]]:
        """Return all decoded images, `(n, height, width, channels)`, and all labels."""
        read = [self._decode(rows) for rows in self._batches("decoding")]
        examples = [example for batch in read for example in batch]
        return self._stack(examples), np.array([y for _, y in examples], np.int32)

    def _batches(self, doing: str) -> Iterable[list[int]]:
        starts = range(0, len(self), BATCH)
        batches = (list(range(start, min(start + BATCH, len(self)))) for start in starts)
        return progress(batches, len(starts), f"{doing} {self.name}, {self._split.name}")

    def _decode(self, rows: list[int]) -> list[tuple[np.ndarray, int]]:
        """Return image and label of each row. Raise `InputError` that names a damaged record."""
        try:
            return [
                (self._array(example[self._image]), int(example[self.label]))
                for example in self._source.__getitems__(rows)
            ]
        except Exception as error:  # a damaged record can raise almost anything
            if len(rows) > 1:  # read the rows one by one to find it
                return [example for row in rows for example in self._decode([row])]
            record = _record(self._split, rows[0])
            raise InputError(f"data set {self.name!r}, {record}: {one_line(error)}") from error

    def _array(self, raw: bytes) -> np.ndarray:
        return decode(raw, self._channels, self._size, upright=False)  # as TFDS does

    def _stack(self, examples: list[tuple[np.ndarray, int]]) -> np.ndarray:
        sizes = {image.shape[:2] for image, _ in examples}
        if len(sizes) > 1:
            raise InputError(
                f"images of data set {self.name!r} must have one size, got {len(sizes)} sizes from "
                f"{min(sizes)} to {max(sizes)} in split {self._split.name!r}: give a size"
            )
        return np.stack([image for image, _ in examples])


def _record(split: Any, row: int) -> str:
    """Return in which file, and where in it, a row of the split is stored."""
    for file in split.file_instructions:
        if row < file.take:
            break
        row -= file.take
    return f"record {row} of {file.filename}"
