"""Leases: which of several processes, on one machine or many, works on what.

A lease is a row of numbered objects in a bucket, or files in a folder. Each is only ever created,
and only if it does not exist: that is all that the store must be able to do. Who creates the next
number holds the lease, and renews it in the same way. A process that has seen the newest number
unchanged for too long, by its own clock, creates the next one: the holder is dead, or was suspended
and finds that it has lost the lease. Clocks of different machines are never compared.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import tempfile
import threading
import time
import uuid
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath

from cnn.buckets import Bucket, BucketPath, Entry
from cnn.errors import InputError, RunError
from cnn.train.store import Folder

SUFFIX = ".lease"
SECONDS = 60.0
"""A lease that is unchanged for so long is free."""
RENEWALS = 6
"""Renewals in that time."""
RELEASED = b"released"


class Leases:
    """The leases in a folder, as one worker sees them. They hold between workers, not threads.

    Args:
        path: A folder that all workers share, also in a bucket.
        seconds: How long a lease is unchanged until it is free, the same for all workers.
        every: Seconds between two renewals; a sixth of that by default.
    """

    def __init__(
        self, path: Path | BucketPath, seconds: float = SECONDS, every: float | None = None
    ) -> None:
        self.seconds, self.every = seconds, seconds / RENEWALS if every is None else every
        self.store = (
            Bucket(path, retry=self.every) if isinstance(path, BucketPath) else Folder(path)
        )
        self._seen: dict[str, tuple[int, float]] = {}
        descriptor, self.alive = tempfile.mkstemp(prefix="cnn-worker-")
        """A locked file, by which processes of this machine see whether this one is alive."""
        weakref.finalize(self, _remove, descriptor, self.alive)
        fcntl.flock(descriptor, fcntl.LOCK_EX)

    def take(self, name: str) -> Lease | None:
        """Return the lease `name`, or None while another worker holds it.

        Raises:
            InputError: If its folder cannot be written, or its store does not create objects
                exclusively.
            RunError: If its bucket does not answer, or refuses.
        """
        row = f"{name}{SUFFIX}"
        with self._errors(row):
            number = self._number_if_free(name)
            lease = None if number is None else Lease(self, row, number)
            if lease is None or not lease.advance():
                return None
            if lease.is_overwritten():
                raise InputError(
                    f"lease '{self.store.path / row}' was overwritten by what was to be created "
                    "only if it did not exist, so nothing keeps a second process out: choose "
                    "another out"
                )
        lease.start()
        return lease

    def newest(self, name: str) -> int:
        """Return the newest number of the lease, 0 if nobody ever held it."""
        return newest(self.store.entries(f"{name}{SUFFIX}"))

    def is_held(self, name: str) -> bool:
        """Return whether a worker holds the lease, as far as this one knows.

        Raises:
            InputError: If its folder cannot be read.
            RunError: If its bucket does not answer, or refuses.
        """
        with self._errors(f"{name}{SUFFIX}"):
            return self._number_if_free(name) is None

    def _number_if_free(self, name: str) -> int | None:
        """Return the newest number of a lease that nobody holds."""
        number = self.newest(name)
        if number == 0 or self._is_unchanged(name, number):
            return number
        with suppress(FileNotFoundError):  # it has just been renewed
            content = self.store.read(f"{name}{SUFFIX}/{number:012}")
            if content == RELEASED or _is_left_by_the_dead(content):
                return number
        return None

    @contextmanager
    def _errors(self, row: str) -> Iterator[None]:
        try:
            yield
        except OSError as error:
            what = f"lease '{self.store.path / row}' cannot be taken"
            if error.errno is None:  # of a bucket
                raise RunError(f"{what} ({error}): start again") from error
            why = "make its folder writable, or choose another out"
            raise InputError(f"{what} ({error.strerror}): {why}") from error

    def _is_unchanged(self, name: str, number: int) -> bool:
        """Return whether this worker has seen the same number for too long."""
        if name not in self._seen or self._seen[name][0] != number:
            self._seen[name] = number, time.monotonic()
        return time.monotonic() - self._seen[name][1] >= self.seconds


class Lease:
    """A lease that this process holds, until it calls `release`, or another process takes it."""

    def __init__(self, leases: Leases, row: str, number: int) -> None:
        self._leases, self._row, self._number = leases, row, number
        about = {"host": socket.gethostname(), "pid": os.getpid(), "lease": uuid.uuid4().hex}
        self._about = {**about, "boot": _boot(), "alive": leases.alive}
        self._lost, self._released = threading.Event(), threading.Event()
        self._guard, self._renewed = threading.Lock(), time.monotonic()
        self._thread = threading.Thread(target=self._renew_at_intervals, daemon=True)

    def start(self) -> None:
        """Renew the lease from now on."""
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another process has the lease, or may have it: stop, and write nothing more."""
        if time.monotonic() - self._renewed > self._leases.seconds:  # this process was suspended
            self._renew()
        return self._lost.is_set()

    def release(self) -> None:
        """Let another process take the lease. The numbers go on, so that no old one returns."""
        self._released.set()
        self._thread.join()
        with suppress(OSError):  # it is free after a while
            if not self._lost.is_set() and self._create(self._number + 1, RELEASED):
                self._leases.store.remove([self._name(self._number)])

    def advance(self) -> bool:
        """Create the next number. Return False if another process has created it, or later ones."""
        number, store = self._number + 1, self._leases.store
        if not self._create(number, json.dumps({**self._about, "number": number}).encode()):
            return False
        listed = set(store.entries(self._row))
        if newest(listed) != number:  # ours was removed long ago, and others went on
            return False
        self._number, self._renewed = number, time.monotonic()
        store.remove(sorted(listed - {self._name(number)}))
        return True

    def is_overwritten(self) -> bool:
        """Try to create the number that is held again. Return whether the store lets it."""
        return self._create(self._number, b"another")

    def _renew_at_intervals(self) -> None:
        while not self._released.wait(self._leases.every) and not self._lost.is_set():
            self._renew()

    def _renew(self) -> None:
        with self._guard:
            try:
                if not self.advance():
                    self._lost.set()
            except OSError:  # the store may be back in time
                if time.monotonic() - self._renewed > self._leases.seconds:
                    self._lost.set()

    def _create(self, number: int, content: bytes) -> bool:
        return self._leases.store.create(self._name(number), content)

    def _name(self, number: int) -> str:
        return f"{self._row}/{number:012}"


def hold(path: Path | BucketPath, seconds: float) -> Lease:
    """Return the lease of a run folder. If its holder is silent, wait until it is free.

    Raises:
        InputError: If another process renews it, or as `Leases.take`.
    """
    leases = Leases(path, seconds)
    first = leases.newest("")
    while (lease := leases.take("")) is None:
        if leases.newest("") != first:
            why = "is in use by another process: wait until it ends, or choose another"
            raise InputError(f"out {str(path)!r} {why}")
        time.sleep(leases.every / 4)
    return lease


def newest(names: Iterable[str]) -> int:
    """Return the greatest number in the names of a lease's objects, 0 if there is none."""
    numbers = (name.rpartition("/")[2] for name in names)
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def is_held(bucket: Bucket, run: PurePosixPath, entries: Mapping[str, Entry]) -> bool:
    """Return whether the lease of `run`, a folder in the bucket, seems to be held.

    The store's clock is compared with that of this machine.
    """
    row = run / SUFFIX
    listed = {name: one for name, one in entries.items() if PurePosixPath(name).parent == row}
    name = f"{row}/{newest(listed):012}"
    if name not in listed:
        return False
    age = (datetime.now(UTC) - listed[name].modified).total_seconds()
    return age < SECONDS and bucket.read(name) != RELEASED


def _is_left_by_the_dead(content: bytes) -> bool:
    """Return whether the holder was a process of this machine that has ended: its lock is gone."""
    try:
        about = json.loads(content)
        if about["boot"] is None or about["boot"] != _boot():  # the folder may be shared, too
            return False
        with Path(about["alive"]).open("r+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return True
    except (ValueError, LookupError, TypeError, OSError):
        return False


def _boot() -> str | None:
    """Return what identifies the running system since its start; None where it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _remove(descriptor: int, path: str) -> None:
    os.close(descriptor)
    Path(path).unlink(missing_ok=True)
