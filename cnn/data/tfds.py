"""Image-classification sets that TFDS has prepared, read without TensorFlow and without a network.

The folder describes itself, so the code that built the set is not needed, and none is run. A set
can be read if

- it is stored as array_record (TensorFlow alone reads tfrecord);
- its features hold one `Image` of 8-bit values, all of one size, and one `ClassLabel`; of several
  (CIFAR-100 has fine and coarse labels) the set's `supervised_keys` say which;
- it has a `train` split, and a `test` or a `validation` split. Without `test`, `validation` is the
  test data. With both, `validation` is added at the end of the training data, and
  `Dataset.held_out` treats all sets alike.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int, Int32, UInt8

from cnn.data.cache import cached
from cnn.data.dataset import Dataset, Split, from_images, statistics
from cnn.data.lazy import LazyArray, fits
from cnn.errors import InputError

BATCH = 512  # records read at once: 1.7 times as fast as one by one, and more gain nothing
SAMPLE = 10_000  # images, evenly spread, that a set which stays in its files is standardised by
MODES = {1: "L", 2: "LA", 3: "RGB", 4: "RGBA"}  # channels to Pillow's name for them


def folders(data_dir: Path) -> dict[str, Path]:
    """Return the sets prepared in `data_dir`, each with the folder of its newest version.

    A set is named by its folders: `mnist` in mnist/3.0.1, `emnist/letters` in emnist/letters/3.1.0.
    """
    found: dict[str, Path] = {}
    infos = [*data_dir.glob("*/*/dataset_info.json"), *data_dir.glob("*/*/*/dataset_info.json")]
    versions = [info.parent for info in infos if re.fullmatch(r"\d+\.\d+\.\d+", info.parent.name)]
    for folder in sorted(versions, key=_version):
        found[folder.parent.relative_to(data_dir).as_posix()] = folder
    return found


def _version(folder: Path) -> tuple[int, ...]:
    return tuple(int(number) for number in folder.name.split("."))


def load(name: str, folder: Path) -> Dataset:
    """Return the set prepared in `folder`. Decoded images are cached until the folder changes.

    A set beyond the budget of `cnn.data.lazy` stays in its files; of it the labels are cached.
    Raises `InputError` where the set cannot be read; a damaged record is named.
    """
    where = str(folder.resolve())
    files = [(file.name, file.stat()) for file in sorted(folder.iterdir())]
    state = repr([(file, stat.st_size, stat.st_mtime_ns) for file, stat in files])
    file = f"{name.replace('/', '-')}-{hashlib.sha256(where.encode()).hexdigest()[:12]}"
    arrays = cached(file, state, lambda: _decode(name, folder))
    classes = tuple(str(label) for label in arrays.pop("classes"))
    if "train_x" in arrays:
        return from_images(name, classes=classes, **arrays)
    mean, std = (tuple(arrays[which].tolist()) for which in ("mean", "std"))
    builder = open_folder(name, folder)

    def stored(part: str, split: str) -> Split:
        y = arrays[f"{part}_y"]
        read = _Reader(builder, split).images
        what = f"{file} {state} {split}"
        return Split(
            LazyArray(what, read, np.arange(len(y)), tuple(arrays["example"].tolist()), mean, std),
            y,
        )

    train, test = _parts(name, builder.info)
    return Dataset(name, stored("train", train), stored("test", test), classes, mean, std)


def _parts(name: str, info: Any) -> tuple[str, str]:
    """Return the splits, as TFDS writes them, that are training and test data."""
    tests = [split for split in ("test", "validation") if split in info.splits]
    if "train" not in info.splits or not tests:
        raise InputError(
            f"data set {name!r} has the splits {sorted(info.splits)}: it needs 'train', and 'test' "
            "or 'validation'"
        )
    return "+".join(["train", *tests[1:]]), tests[0]


def _decode(name: str, folder: Path) -> dict[str, np.ndarray]:
    builder = open_folder(name, folder)
    train, test = (_Reader(builder, split) for split in _parts(name, builder.info))
    arrays = {"classes": np.array(builder.info.features[train.label].names)}
    example = train.images(np.arange(1)).shape[1:]
    if fits(len(train), example):
        (train_x, train_y), (test_x, test_y) = train.whole(), test.whole()
        images = {"train_x": train_x, "train_y": train_y, "test_x": test_x, "test_y": test_y}
        return arrays | images
    some = np.linspace(0, len(train) - 1, min(len(train), SAMPLE)).astype(int)
    mean, std = statistics(train.images(some))
    arrays |= {"mean": mean, "std": std, "example": np.array(example)}
    return arrays | {"train_y": train.labels(), "test_y": test.labels()}


def open_folder(name: str, folder: Path) -> Any:
    """Return the TFDS builder that reads this folder.

    Raises `InputError` where its description is damaged or names code of others (TFDS would import
    it), or where its records are not stored as array_record.
    """
    import tensorflow_datasets as tfds

    foreign: set[str] = set()

    def note_class(fields: dict[str, Any]) -> None:
        for key in ("pythonClassName", "python_class_name", "type"):
            value = fields.get(key)
            if isinstance(value, str) and not value.startswith("tensorflow_datasets."):
                foreign.add(value)

    try:
        json.loads((folder / "features.json").read_text(), object_hook=note_class)
        builder = None if foreign else tfds.builder_from_directory(folder)
    except Exception as error:  # whatever it is, what it was doing is reading two files
        raise InputError(f"{folder}: dataset_info.json or features.json: {_line(error)}") from error
    if builder is None:
        raise InputError(
            f"data set {name!r} has features of the classes {sorted(foreign)}, whose code is not "
            "run: build it from the features of tensorflow_datasets"
        )
    stored = sorted(file_format.value for file_format in builder.info.available_file_formats())
    if "array_record" not in stored:
        found = ", ".join(stored) or "tfrecord"  # what folders without an entry hold
        raise InputError(
            f"data set {name!r} in {folder} is stored as {found}: prepare it in another folder "
            "with file_format='array_record', as python -m experiments.prepare does"
        )
    return builder


def image_and_label(name: str, info: Any) -> tuple[str, str]:
    """Return the keys of the image and of the label in a TFDS `DatasetInfo`.

    Raises `InputError` where there is not just one of each, or the image is not of 8-bit values.
    """
    import tensorflow_datasets as tfds

    features = dict(info.features)
    supervised = info.supervised_keys or ()

    def only(kind: type) -> str:
        keys = [key for key, feature in features.items() if type(feature) is kind]
        named = [key for key in keys if key in supervised]
        if len(keys) != 1 and len(named) != 1:
            raise InputError(
                f"data set {name!r} is not for image classification: it has {len(keys)} "
                f"{kind.__name__} features, not one, among {sorted(features)}"
            )
        return str((named or keys)[0])

    image, label = only(tfds.features.Image), only(tfds.features.ClassLabel)
    if features[image].np_dtype != np.uint8 or features[image].shape[-1] not in MODES:
        raise InputError(
            f"data set {name!r} has images of type {features[image]}: they must be uint8 with 1 to "
            "4 channels"
        )
    return image, label


class _Reader:
    """One split of a set: its examples by number, and what is wrong with one that is damaged."""

    def __init__(self, builder: Any, split: str) -> None:
        import tensorflow_datasets as tfds

        self.name, self._split = builder.info.name, builder.info.splits[split]
        if not self._split.num_examples:
            raise InputError(f"data set {self.name!r} has no examples in its split {split!r}")
        self._image, self.label = image_and_label(self.name, builder.info)
        raw = {self._image: tfds.decode.SkipDecoding()}
        self._source = builder.as_data_source(split, decoders=raw)
        self._mode = MODES[builder.info.features[self._image].shape[-1]]

    def __len__(self) -> int:
        return len(self._source)

    def images(self, rows: Int[np.ndarray, " m"]) -> UInt8[np.ndarray, "m height width channels"]:
        """Return the decoded images of these rows."""
        return self._stacked(self._decoded(rows.tolist()))

    def labels(self) -> Int32[np.ndarray, " n"]:
        """Return all labels, decoding no image."""
        read = [self._source.__getitems__(rows) for rows in self._batches("reading labels of")]
        return np.array([int(e[self.label]) for batch in read for e in batch], np.int32)

    def whole(
        self,
    ) -> tuple[UInt8[np.ndarray, "n height width channels"], Int32[np.ndarray, " n"]]:
        """Return all images, decoded, and their labels, in stored order."""
        read = [self._decoded(rows) for rows in self._batches("decoding")]
        examples = [example for batch in read for example in batch]
        return self._stacked(examples), np.array([y for _, y in examples], np.int32)

    def _batches(self, doing: str) -> Iterator[list[int]]:
        from rich.console import Console
        from rich.progress import track

        for start in track(
            range(0, len(self), BATCH),
            description=f"{doing} {self.name}, {self._split.name}",
            console=Console(stderr=True),
            transient=True,
            disable=not sys.stderr.isatty(),
        ):
            yield list(range(start, min(start + BATCH, len(self))))

    def _decoded(self, rows: list[int]) -> list[tuple[np.ndarray, int]]:
        def decode(rows: list[int]) -> list[tuple[np.ndarray, int]]:
            return [
                (self._array(e[self._image]), int(e[self.label]))
                for e in self._source.__getitems__(rows)
            ]

        try:
            return decode(rows)
        except Exception:  # what a damaged record raises depends on where the damage is
            for row in rows:
                try:
                    decode([row])
                except Exception as error:
                    record = _record(self._split, row)
                    raise InputError(f"data set {self.name!r}, {record}: {_line(error)}") from error
            raise

    def _array(self, raw: bytes) -> np.ndarray:
        from PIL import Image

        picture = np.asarray(Image.open(io.BytesIO(raw)).convert(self._mode))
        return picture.reshape(*picture.shape[:2], -1)

    def _stacked(self, examples: list[tuple[np.ndarray, int]]) -> np.ndarray:
        sizes = {picture.shape[:2] for picture, _ in examples}
        if len(sizes) > 1:
            raise InputError(
                f"data set {self.name!r} has images of {len(sizes)} sizes, {min(sizes)} to "
                f"{max(sizes)}, in its split {self._split.name!r}: build it with images of one size"
            )
        return np.stack([picture for picture, _ in examples])


def _record(split: Any, row: int) -> str:
    """Say in which file, and where in it, a row of the split is stored."""
    for file in split.file_instructions:
        if row < file.take:
            break
        row -= file.take
    return f"record {row} of {file.filename}"


def _line(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())[:200]}"
