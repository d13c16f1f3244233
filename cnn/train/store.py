"""A folder that all processes share, with the methods of a bucket that leases need."""

from __future__ import annotations

import os
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path


class Folder:
    """The files in a folder, by their names in it. It is made with the first file.

    Every method raises `OSError` as the file system does.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def entries(self, below: str) -> Collection[str]:
        """Return the names of all files in the subfolder `below`."""
        with suppress(FileNotFoundError):
            return [f"{below}/{name}" for name in os.listdir(self.path / below)]
        return ()

    def read(self, name: str) -> bytes:
        """Return a file's content, which may still be empty."""
        return (self.path / name).read_bytes()

    def create(self, name: str, content: bytes) -> bool:
        """Write a file that does not exist. Return False, and write nothing, if it does."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            file = path.open("xb", buffering=0)
        except FileExistsError:
            return False
        with file:
            try:
                file.write(content)
            except OSError:
                path.unlink(missing_ok=True)
                raise
        return True

    def remove(self, names: Collection[str]) -> None:
        """Remove files. They need not exist."""
        for name in names:
            (self.path / name).unlink(missing_ok=True)
