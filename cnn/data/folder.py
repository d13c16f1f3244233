"""Folders of images: one folder for each class, in `train/` and `test/` or without these."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np

from cnn.data import images
from cnn.data.cache import cached
from cnn.data.class_folders import File, Folder, read_folder
from cnn.data.encoded import BATCH, EncodedImages, Headers, in_threads
from cnn.data.files import Source, cache_name, load_parts
from cnn.data.split import Parts, split_by_seed
from cnn.errors import InputError

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp")


def parts_of_folder(
    root: str, size: Sequence[int] | None, channels: int | None, seed: int
) -> Parts:
    """Return the parts of `Dataset.from_folder`, which describes the arguments."""
    size = images.checked_size(size, channels)
    try:
        folder = read_folder(root)
    except OSError as error:
        raise InputError(f"cannot read folder {root!r}: {error.strerror}") from error
    file = cache_name(os.path.basename(folder.root), folder.root)
    key = f"{folder.state} {size} {channels} {seed}"
    return load_parts(file, key, lambda: _open(folder, file, size, channels, seed))


def _open(
    folder: Folder, file: str, size: images.Size | None, channels: int | None, seed: int
) -> Source:
    """Read which files are images and what their headers say, and divide them into parts."""
    files, classes = folder.files, next(iter(folder.parts.values()))
    index = {label: number for number, label in enumerate(classes)}
    every = EncodedImages(
        get=lambda row: files[row].path,
        describe=lambda row: repr(files[row].path),
        rows=np.arange(len(files)),
        y=np.array([index[each.label] for each in files], np.int32),
    )

    def scan() -> dict[str, np.ndarray]:
        rows = np.flatnonzero(_are_images(files))
        return {"rows": rows, **(every.take(rows).headers()._asdict() if len(rows) else {})}

    found = cached(f"{file}-headers", folder.state, scan)
    taken = every.take(found.pop("rows"))
    part_of = np.array([files[row].part for row in taken.rows.tolist()])
    for part, labels in folder.parts.items():
        present = set(taken.y[part_of == part].tolist())
        if empty := [label for label in labels if index[label] not in present]:
            where = os.path.join(folder.root, part, empty[0])
            raise InputError(f"{where!r} has no PNG, JPEG or WebP image")
    headers = Headers(**found)
    taken = taken.uniform(headers, size, channels)
    if len(folder.parts) == 1:
        train, test = split_by_seed(taken.y, seed)
    else:
        (*first, last) = folder.parts
        train = np.concatenate([np.flatnonzero(part_of == part) for part in first])
        test = np.flatnonzero(part_of == last)
    how = "" if len(folder.parts) > 1 else f", drawn by seed {seed}"
    told = [
        f"{len(classes)} classes, {len(train)} training and {len(test)} test images{how}",
        taken.describe_sizes(headers),
    ]
    if others := [
        *folder.left_out,
        *(files[row].path for row in np.setdiff1d(every.rows, taken.rows)),
    ]:
        told.append(f"not read: {len(others)} files and folders, such as {others[0]!r}")
    notice = f"{os.path.basename(folder.root)}: {'; '.join(told)}"
    return Source(taken.take(train), taken.take(test), tuple(classes), notice)


def _are_images(files: list[File]) -> np.ndarray:
    """Return which files are images, by their content.

    Raises:
        InputError: If a file that is named like an image is none.
    """

    def check(start: int) -> list[bool]:
        return [_is_image(file.path) for file in files[start : start + BATCH]]

    batches = in_threads(check, range(0, len(files), BATCH), "reading files")
    return np.array([one for batch in batches for one in batch], bool)


def _is_image(path: str) -> bool:
    try:
        with open(path, "rb") as file:
            found = images.is_image(file.read(12))
    except OSError as error:
        raise InputError(f"cannot read {path!r}: {error.strerror}") from error
    if not found and path.lower().endswith(SUFFIXES):
        raise InputError(f"{path!r} is no PNG, JPEG or WebP image, although its name says so")
    return found
