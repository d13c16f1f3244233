"""Folders in buckets (gs://, s3://): objects that are written whole or not at all, by obstore."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from etils import epy

from cnn.errors import InputError

with epy.lazy_imports():  # an extra, which only runs in buckets need
    import obstore
    from obstore import exceptions, store

RETRY = 60.0
"""Seconds in which requests that fail are sent again."""


class BucketPath(PurePosixPath):
    """A folder in a bucket, gs://bucket/runs/a."""

    def __str__(self) -> str:
        return super().__str__().replace(":/", "://", 1)  # pathlib makes one slash of two


def bucket_path(text: str) -> BucketPath | None:
    """Return the path in a bucket that a text is; None for a path in a file system.

    >>> str(bucket_path("gs://b/runs/a/"))
    'gs://b/runs/a'
    """
    return BucketPath(text) if re.match(r"(gs|s3):/+[^/]", text) else None


class Entry(NamedTuple):
    """What a list says of an object."""

    size: int
    e_tag: str | None
    modified: datetime
    """Time of the store's clock."""


class Bucket:
    """The objects in a folder of a bucket, by their names in it.

    Address and credentials come from the environment, by the rules of obstore: `AWS_...`,
    `GOOGLE_...`, and the service of the machine. It repeats requests that fail.
    Every method raises `OSError` when the bucket cannot be reached, or refuses.

    Raises:
        InputError: If obstore is not installed, or its settings are invalid.
    """

    def __init__(self, path: BucketPath, retry: float = RETRY) -> None:
        self.path = path
        if importlib.util.find_spec("obstore") is None:
            raise InputError(f"{path} needs obstore, not installed: make install EXTRA=bucket")
        try:
            self._store = store.from_url(
                str(path),
                retry_config={"retry_timeout": timedelta(seconds=retry), "max_retries": 10},
            )
        except (exceptions.BaseError, ValueError) as error:
            raise InputError(f"{path} cannot be opened: {_one_line(error)}") from error

    def entries(self, below: str = "") -> dict[str, Entry]:
        """Return all objects at any depth in the subfolder `below`."""
        with self._errors():
            listed = [one for part in obstore.list(self._store, below or None) for one in part]
        return {
            one["path"]: Entry(one["size"], one["e_tag"], one["last_modified"]) for one in listed
        }

    def read(self, name: str) -> bytes:
        """Return an object's content."""
        with self._errors():
            return bytes(obstore.get(self._store, name).bytes())

    def write(self, name: str, content: bytes | Path) -> None:
        """Write an object: these bytes, or those of a file."""
        with self._errors():
            obstore.put(self._store, name, content)

    def create(self, name: str, content: bytes) -> bool:
        """Write an object that does not exist. Return False, and write nothing, if it does."""
        try:
            with self._errors():
                obstore.put(self._store, name, content, mode="create")
        except FileExistsError:
            # When an answer was lost, and the request sent again, the object is our own.
            return self.read(name) == content
        return True

    def download(self, name: str, path: Path) -> None:
        """Write an object's content to a new file, whose folder is made."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with self._errors(), path.open("wb") as file:
            for part in obstore.get(self._store, name).stream():
                file.write(part)

    def remove(self, names: Collection[str]) -> None:
        """Remove objects, in this order. They need not exist."""
        for name in names:
            try:
                with self._errors():
                    obstore.delete(self._store, name)
            except FileNotFoundError:
                pass

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except exceptions.AlreadyExistsError as error:
            raise FileExistsError(_one_line(error)) from error
        except exceptions.BaseError as error:
            raise OSError(_one_line(error)) from error


@contextmanager
def reading(path: BucketPath) -> Iterator[None]:
    """Make an `InputError` of what goes wrong while a bucket is read, or copied to files."""
    try:
        yield
    except OSError as error:
        what, why = "read", "check its name, and the credentials in the environment"
        if error.errno is not None:  # of the file system
            what = "copied to this machine"
            why = "make room, or choose other folders by TMPDIR and XDG_CACHE_HOME"
        raise InputError(f"{path} cannot be {what} ({_one_line(error)}): {why}") from error


def _one_line(error: Exception) -> str:
    """Return the beginning of a message, whose later lines repeat it."""
    text = str(error).split("\n")[0]
    return " ".join(text.split())[:200]
