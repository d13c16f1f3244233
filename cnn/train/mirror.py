"""Runs in buckets: trained in a temporary folder, which is copied into the bucket as it grows.

So a run does in a bucket what it does in a file system, with the same checkpoints. An object is
written whole, `run.json` first: without it a folder is no run, and is refused. The manifest of a
checkpoint is written last: without it a checkpoint is incomplete, and is removed. Metrics are
written before the checkpoint that they lead to, because a run that is resumed keeps the lines up to
its checkpoint.
"""

from __future__ import annotations

import itertools
import logging
import shutil
import tempfile
import threading
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path, PurePosixPath

import jax
from filelock import FileLock

from cnn.buckets import Bucket, BucketPath, reading
from cnn.errors import InputError, RunError
from cnn.train import lease, run_dir
from cnn.train.agreement import on_process_zero
from cnn.train.checkpoints import MANIFEST
from cnn.train.files import PART, read_json
from cnn.train.non_finite import Diverged
from cnn.train.preemption import ShouldStop, Stopped
from cnn.train.run_dir import CHECKPOINTS, DIVERGED, LOCK, METRICS, OVERWRITTEN, RUN

EVERY = 5.0
"""Seconds between two copies. A store may refuse to write one object more than once a second."""
CHECK_EVERY = 20
"""Calls of `stop` between two checks of the lease by several processes, which then wait for it."""
State = tuple[int, int]
"""Size and time of change of a file."""
logger = logging.getLogger(__name__)


@contextmanager
def staged(
    out: Path | BucketPath, overwrite: bool, stop: ShouldStop, names: Sequence[str] = ("",)
) -> Iterator[tuple[Path, ShouldStop]]:
    """Yield the folder to train in, and when to stop; for a file system, those given.

    For a bucket it is a temporary folder with what is in the bucket. At the end all is copied, the
    lease released, and the folder removed. Of several processes only process 0 has the copy and the
    lease; what is raised there is raised in all.

    Args:
        out: The folder.
        overwrite: Remove the run that is there.
        stop: When to stop.
        names: Ends of the names of the objects that are needed. Others stay as they are, unless
            they are written anew.

    Raises:
        InputError: If another process uses the run folder, or the bucket cannot be read.
        RunError: If the lease was lost, or the end of the run cannot be copied; it is kept then.
    """
    if not isinstance(out, BucketPath):
        yield out, stop
        return
    local = Path(tempfile.mkdtemp(prefix="cnn-run-"))
    with ExitStack() as cleaning:
        cleaning.callback(shutil.rmtree, local)
        folder, mirrors = local / out.name, list[Mirror]()  # one in process 0
        on_process_zero(lambda: mirrors.append(Mirror(out, local, overwrite, names)))
        calls, together = itertools.count(), CHECK_EVERY if jax.process_count() > 1 else 1

        def checked(step: int) -> bool:
            if next(calls) % together == 0:
                on_process_zero(lambda: mirrors[0].check())
            return stop(step)

        def close() -> None:
            try:
                mirrors[0].close()
            except OSError as error:
                cleaning.pop_all()
                why = f"cannot be written ({error}): the run is kept in {folder}"
                raise RunError(f"{out} {why}") from error

        try:
            yield folder, checked
        except (Stopped, Diverged):  # in all processes, after the same step
            on_process_zero(close)
            raise
        except BaseException:  # perhaps in this process alone
            if mirrors:
                close()
            raise
        on_process_zero(close)


def check_out(out: Path | BucketPath, resume: bool, overwrite: bool) -> None:
    """Raise `InputError` if a run may not start in `out`. Write nothing."""
    if not isinstance(out, BucketPath):
        run_dir.check_folder(out, resume, overwrite)
        return
    run_dir.check_name(out)

    def check() -> None:
        with reading(out):
            names = Bucket(out).entries()
        run_dir.check_content(out, names, resume, overwrite)

    on_process_zero(check)


class Mirror:
    """A copy of a run folder in a bucket, kept up to date by a thread until `close`."""

    def __init__(
        self, path: BucketPath, local: Path, overwrite: bool, names: Sequence[str] = ("",)
    ) -> None:
        self.folder, self._names = local / path.name, tuple(names)
        self._bucket, self._written = Bucket(path), dict[str, State | None]()
        with reading(path):
            self._lease = lease.hold(path, lease.SECONDS)
            self._fetch(overwrite)
        self._closed = threading.Event()
        self._thread = threading.Thread(target=self._copy_at_intervals, daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Copy what is left, and release the lease. Raise as `copy` does."""
        self._closed.set()
        self._thread.join()
        try:
            self.copy()
        finally:
            self._lease.release()

    def check(self) -> None:
        """Raise `RunError` if another process holds the lease now, or may hold it."""
        if self._lease.lost:
            raise RunError(
                f"the lease of {self._bucket.path} was lost, to another process or because the "
                f"bucket did not answer for {lease.SECONDS:g} seconds: start again, a run with "
                "--resume"
            )

    def _fetch(self, overwrite: bool) -> None:
        """Make the folder what the bucket holds, without checkpoints that are incomplete."""
        self.folder.mkdir()
        entries = self._bucket.entries()
        names = {name for name in entries if name[0] != "." and name.endswith(self._names)}
        mark = OVERWRITTEN.encode()
        if overwrite and RUN in names:
            self._bucket.write(RUN, mark)
        if RUN in names and self._bucket.read(RUN) == mark:
            self._bucket.remove(names - {RUN})
            names = {RUN}
        self._written = dict.fromkeys(names)
        for name in _complete(names):
            self._bucket.download(name, self.folder / name)
            self._written[name] = _state(self.folder / name)

    def _copy_at_intervals(self) -> None:
        failing = False
        while not self._closed.wait(EVERY):
            try:
                self.copy()
                failing = False
            except RunError:  # the lease is lost, and training ends with this error
                return
            except OSError as error:
                if not failing:
                    logger.warning("%s cannot be written (%s): trying on", self._bucket.path, error)
                failing = True

    def copy(self) -> None:
        """Write what has changed in the folder since the last call, and remove what is gone.

        Raises:
            OSError: If the bucket cannot be written.
            RunError: If the lease is lost.
        """
        found = self._files()
        for name in sorted(found, key=_order):
            if self._written.get(name) != found[name]:
                self.check()
                try:
                    self._bucket.write(name, self.folder / name)
                except FileNotFoundError:  # it was removed meanwhile
                    continue
                self._written[name] = found[name]
        for name in sorted(self._written.keys() - found.keys(), key=_order, reverse=True):
            self.check()
            self._bucket.remove([name])
            del self._written[name]

    def _files(self) -> dict[str, State]:
        """Return the complete files of the folder by their names in it.

        A checkpoint is complete while it has all files of its manifest: Orbax may be removing it.
        """
        found = {}
        for path in self.folder.rglob("*"):
            name = path.relative_to(self.folder).as_posix()
            if path.name[0] != "." and not name.endswith(PART) and "checkpoint-tmp" not in name:
                try:
                    if path.is_file():
                        found[name] = _state(path)
                except FileNotFoundError:  # it was removed meanwhile
                    continue
        for name in [name for name in found if _is_manifest(name)]:
            step = name.removesuffix(MANIFEST)
            with suppress(FileNotFoundError):
                files = read_json(self.folder / name)["files"]
                if any(step + file not in found for file in files):
                    del found[name]
        complete = set(_complete(found))
        return {name: state for name, state in found.items() if name in complete}


def _state(path: Path) -> State:
    about = path.stat()
    return about.st_size, about.st_mtime_ns


def _order(name: str) -> int:
    """Return when a file is written: first what says that this is a run, manifests last."""
    if not name.startswith(f"{CHECKPOINTS}/"):
        return int(name != RUN)
    return 3 if _is_manifest(name) else 2


def _is_manifest(name: str) -> bool:
    return name.startswith(f"{CHECKPOINTS}/") and name.endswith(MANIFEST)


def _complete(names: Collection[str]) -> list[str]:
    """Return the names without those in checkpoints whose manifest was not written."""

    def manifest(name: str) -> str:
        before, _, after = name.rpartition(f"{CHECKPOINTS}/")
        return f"{before}{CHECKPOINTS}/{after.partition('/')[0]}/{MANIFEST}"

    return [name for name in names if f"{CHECKPOINTS}/" not in name or manifest(name) in names]


@contextmanager
def copied(folder: Path | BucketPath, checkpoints: bool = False) -> Iterator[Path]:
    """Yield a folder with the records of the runs in `folder`; for a file system, `folder`.

    For a bucket it is a temporary copy, and a run that is in use is locked there, too.

    Args:
        folder: One run, or a folder of runs.
        checkpoints: Copy all files.

    Raises:
        InputError: If the bucket cannot be read.
    """
    if not isinstance(folder, BucketPath):
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="cnn-runs-") as temporary, ExitStack() as locks:
        local = Path(temporary)
        with reading(folder):
            bucket = Bucket(folder)
            entries = bucket.entries()
            for path in map(PurePosixPath, _complete(entries)):
                if checkpoints or path.name in (RUN, METRICS, DIVERGED):
                    bucket.download(str(path), local / path)
                if path.name == RUN and lease.is_held(bucket, path.parent, entries):
                    locks.enter_context(FileLock(local / path.parent / LOCK))
        try:
            yield local
        except InputError as error:
            raise InputError(str(error).replace(str(local), str(folder))) from error
