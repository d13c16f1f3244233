"""Sets that TFDS has prepared in a bucket, copied once into the user's cache folder.

They are not read where they are: array_record opens files, and etils needs one more package for
each cloud. The name of a copy has a hash of the list of objects with their sizes and tags, so a set
that changes is copied anew. A copy is made beside its place and renamed when it is complete, so
half of one is never read.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from etils import epy

from cnn.buckets import Bucket, BucketPath, Entry, reading
from cnn.data.cache import cache_folder
from cnn.data.files import progress
from cnn.data.tfds import newest_versions
from cnn.errors import InputError

with epy.lazy_imports():
    import filelock


def prepared(data_dir: BucketPath) -> dict[str, BucketPath]:
    """Return the name and newest folder of every set in `data_dir`, as `cnn.data.tfds.prepared`.

    Raises:
        InputError: If the bucket cannot be read.
    """
    with reading(data_dir):
        names = [name for name in Bucket(data_dir).entries() if name.count("/") in (2, 3)]
    infos = (data_dir / name for name in names if name.endswith("/dataset_info.json"))
    return newest_versions(data_dir, infos)


def local_copy(folder: BucketPath) -> Path:
    """Return a folder of this machine with the files of `folder`, one version of a set.

    Raises:
        InputError: If the bucket cannot be read, or changes meanwhile, or there is no room.
    """
    bucket = Bucket(folder)
    with reading(folder):
        entries = bucket.entries()
        root = cache_folder() / "copies"
        root.mkdir(parents=True, exist_ok=True)
        state = _state(entries)
        name = hashlib.sha256(f"{folder} {state}".encode()).hexdigest()[:16]
        copy = root / name / folder.parent.name / folder.name
        with filelock.FileLock(root / f"{name}.lock"):  # one of several processes copies
            if _is_whole(copy, entries):
                return copy
            with tempfile.TemporaryDirectory(dir=root) as temporary:
                part = Path(temporary) / folder.name
                for each in progress(entries, len(entries), f"copying {folder}"):
                    bucket.download(each, part / each)
                if _state(bucket.entries()) != state or not _is_whole(part, entries):
                    raise InputError(f"{folder} has changed while it was copied: start again")
                shutil.rmtree(copy, ignore_errors=True)  # damaged
                copy.parent.mkdir(parents=True, exist_ok=True)
                os.replace(part, copy)
    return copy


def _state(entries: Mapping[str, Entry]) -> list[tuple[str, int, str | None]]:
    return sorted((name, entry.size, entry.e_tag) for name, entry in entries.items())


def _is_whole(folder: Path, entries: Mapping[str, Entry]) -> bool:
    """Return whether all files are there, with their sizes."""
    files = ((folder / name, entry.size) for name, entry in entries.items())
    return all(file.is_file() and file.stat().st_size == size for file, size in files)
