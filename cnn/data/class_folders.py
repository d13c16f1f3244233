"""Which files a folder of class folders holds, in which parts. No file is opened."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cnn.data.files import choose_parts, files_state
from cnn.errors import InputError

PARTS = ("train", "test", "val", "validation")


class File(NamedTuple):
    """A file of a class folder."""

    part: str
    """`""` if the set has no parts."""
    label: str
    path: str


@dataclass(frozen=True, eq=False)
class Folder:
    """The files of a folder, by part, class and name."""

    root: str
    parts: dict[str, list[str]]
    """Class folders by part, the test part last."""
    left_out: list[str]
    """Paths beside the parts and the class folders."""
    files: list[File]
    state: str
    """Hash of all names, sizes and times of change."""


def resolved(path: str | Path) -> str:
    """Return the absolute path of a folder, without `~` and links."""
    return os.path.realpath(os.path.expanduser(path))


def read_folder(root: str) -> Folder:
    """List the class folders and their files, at any depth. Hidden ones are left out.

    Raises:
        InputError: If the class folders are not clear.
    """
    parts, left_out = _layout(root)
    known = next(iter(parts.values()))
    for part, labels in parts.items():
        if new := [label for label in labels if label not in known]:
            raise InputError(f"{root!r} must have every class in train/, but not {part}/{new[0]}")
    if len(known) < 2:
        raise InputError(
            f"{root!r} must have a folder for each of two classes or more, got {known}"
        )
    files = [
        File(part, label, file)
        for part, labels in parts.items()
        for label in labels
        for file in _walk(os.path.join(root, part, label))
    ]
    state = files_state(root, (file.path for file in files))
    return Folder(root, parts, left_out, files, state)


def _layout(root: str) -> tuple[dict[str, list[str]], list[str]]:
    """Return the class folders by part, the test part last, and what lies beside these."""
    folders, left_out = _entries(root)
    divided = [part for part in PARTS if part in folders and _entries(f"{root}/{part}")[0]]
    if not divided:
        return {"": folders}, left_out
    names = divided
    if divided != ["train"]:
        train, test = choose_parts(os.path.basename(root), divided)
        names = [*train, test]
    parts = {}
    for part in names:
        parts[part], files = _entries(f"{root}/{part}")
        left_out += [f"{part}/{file}" for file in files]
    return parts, left_out + [name for name in folders if name not in divided]


def _entries(folder: str) -> tuple[list[str], list[str]]:
    """Return the names of the folders, and of the files, in a folder. Hidden ones are left out."""
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(".")]
    folders = [entry.name for entry in entries if entry.is_dir()]
    return sorted(folders), sorted(entry.name for entry in entries if entry.is_file())


def _walk(folder: str) -> Iterator[str]:
    """Yield all files below a folder by name, each folder once, however it is linked."""
    if os.path.islink(folder):
        _check_link(folder)
    pending, seen = [folder], set()
    while pending:
        here = pending.pop()
        identity = os.stat(here)
        if (identity.st_dev, identity.st_ino) in seen:
            continue
        seen.add((identity.st_dev, identity.st_ino))
        inside = sorted((e for e in os.scandir(here) if e.name[0] != "."), key=lambda e: e.name)
        pending += [entry.path for entry in reversed(inside) if entry.is_dir()]
        for entry in inside:
            if entry.is_symlink():
                _check_link(entry.path)
            if entry.is_file():
                yield entry.path


def _check_link(path: str) -> None:
    """Raise `InputError` for a link to nothing, or to a folder that it is in."""
    if not os.path.exists(path):
        raise InputError(f"{path!r} is a link to a file that is not there")
    target, here = os.path.realpath(path), os.path.realpath(os.path.dirname(path))
    if os.path.commonpath([target, here]) == target:
        raise InputError(f"{path!r} is a link to a folder that it is in: remove it")
