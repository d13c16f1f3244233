"""A folder that several workers share, also in a bucket: then small files of it are copied here."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from etils import epy

from cnn.buckets import Bucket, BucketPath, reading
from cnn.errors import InputError, RunError

with epy.lazy_imports():
    from cnn.train import run_dir


class Shared:
    """The folder `out`. In `folder` of this machine are its files, of a bucket those asked for.

    Args:
        out: The folder of the workers.
        folder: The same folder, or for a bucket one of this machine, in which nothing else is.
        names: Ends of the names of the files that are copied from a bucket.
    """

    def __init__(self, out: Path | BucketPath, folder: Path, names: Sequence[str] = ()) -> None:
        self.out, self.folder, self._names = out, folder, tuple(names)
        self._bucket = Bucket(out) if isinstance(out, BucketPath) else None
        self._tags = dict[str, str | None]()

    def refresh(self) -> None:
        """Copy what has changed in the bucket, and remove what is gone.

        Raises:
            RunError: If the bucket cannot be read.
        """
        if self._bucket is not None:
            try:
                self._copy(self._bucket)
            except OSError as error:
                raise RunError(f"{self.out} cannot be read ({error}): start again") from error

    def _copy(self, bucket: Bucket) -> None:
        found = bucket.entries()
        tags = {name: one.e_tag for name, one in found.items() if name.endswith(self._names)}
        for name, tag in list(tags.items()):
            if self._tags.get(name, "") != tag:
                try:
                    bucket.download(name, self.folder / name)
                except FileNotFoundError:  # another worker has just removed it
                    del tags[name]
                    self._tags[name] = ""
        for name in self._tags.keys() - tags.keys():
            (self.folder / name).unlink(missing_ok=True)
        self._tags = tags

    def publish(self, *files: Path) -> None:
        """Write files of `folder` to the bucket, or remove those that are gone.

        Raises:
            RunError: If the bucket cannot be written.
        """
        if self._bucket is None:
            return
        for name in (file.relative_to(self.folder).as_posix() for file in files):
            try:
                if (self.folder / name).exists():
                    self._bucket.write(name, self.folder / name)
                    self._tags[name] = ""  # its tag is not known
                else:
                    self._bucket.remove([name])
            except OSError as error:
                raise RunError(f"{self.out}/{name} cannot be written ({error})") from error


@contextmanager
def opened(out: Path | BucketPath, names: Sequence[str]) -> Iterator[Shared]:
    """Yield the folder `out`, of a bucket with copies of the files whose names end so.

    Raises:
        InputError: If the bucket cannot be read. Messages name `out`, not the copy.
    """
    if not isinstance(out, BucketPath):
        yield Shared(out, out)
        return
    run_dir.check_name(out)
    with tempfile.TemporaryDirectory(prefix="cnn-sweep-") as local:
        made = Shared(out, Path(local), names)
        with reading(out):
            made._copy(Bucket(out))
        try:
            yield made
        except InputError as error:
            raise InputError(str(error).replace(local, str(out))) from error
