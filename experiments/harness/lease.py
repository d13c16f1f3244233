"""Leases: which of several processes, on one host or many with a shared folder, works on what.

A lease is a file that only one process can create. Its holder writes a count into it at intervals.
A process that sees a lease unchanged for too long, by its own clock, takes it: the holder is dead.
Clocks of different hosts are never compared. Where several take the lease of a dead one at the same
moment, two may hold it until the next renewal; then only one does, and `lost` tells the other.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import socket
import threading
import time
import uuid
from pathlib import Path

from cnn.errors import InputError

SECONDS = 60.0
"""A lease that is unchanged for so long is free."""
RENEWALS = 6
"""Renewals in that time."""
SUFFIX = ".lease"


class Leases:
    """The leases in a folder, as one worker sees them. They hold between workers, not threads.

    Args:
        folder: A folder that all workers share. It is created when the first lease is taken.
        seconds: How long a lease is unchanged until it is free, the same for all workers.
        every: Seconds between two renewals; a sixth of that by default.
    """

    def __init__(self, folder: Path, seconds: float = SECONDS, every: float | None = None) -> None:
        self._folder, self.seconds = folder, seconds
        self._every = seconds / RENEWALS if every is None else every
        self.worker = f"{socket.gethostname()}:{os.getpid()}:{uuid.uuid4().hex[:8]}"
        self._seen: dict[str, tuple[str, float]] = {}

    def take(self, name: str) -> Lease | None:
        """Return the lease `name`, or None while another worker holds it.

        Raises:
            InputError: If the folder cannot be written.
        """
        path = self._folder / f"{name}{SUFFIX}"
        try:
            content = self._content(name)
            if content is not None:
                if not (self._is_unchanged(name, content) or _is_left_by_the_dead(path, content)):
                    return None
                if not _remove(path, content):
                    return None
            self._folder.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o644)
        except FileExistsError:
            if self._folder.is_dir():
                return None
            raise InputError(f"{str(self._folder)!r} must be a folder: move it away") from None
        except OSError as error:
            raise InputError(
                f"lease {str(path)!r} cannot be taken ({error.strerror}): make its folder "
                "writable, or choose another out"
            ) from error
        return Lease(path, descriptor, self.worker, self.seconds, self._every)

    def holder(self, name: str) -> str | None:
        """Return the worker that holds the lease, as far as this one knows; None if it is free."""
        content = self._content(name)
        if content is None or self._is_unchanged(name, content):
            return None
        if _is_left_by_the_dead(self._folder / f"{name}{SUFFIX}", content):
            return None
        with contextlib.suppress(ValueError):
            return str(json.loads(content)["worker"])
        return "another worker"  # which has just created it

    def _content(self, name: str) -> str | None:
        try:
            return (self._folder / f"{name}{SUFFIX}").read_text(errors="replace")
        except (FileNotFoundError, NotADirectoryError):
            self._seen.pop(name, None)
            return None

    def _is_unchanged(self, name: str, content: str) -> bool:
        """Return whether this worker has seen the same content for too long."""
        before, since = self._seen.get(name, ("", 0.0))
        if name not in self._seen or before != content:
            self._seen[name] = content, time.monotonic()
            return False
        return time.monotonic() - since >= self.seconds


class Lease:
    """A lease that this process holds, until it calls `release`, or another process takes it."""

    def __init__(
        self, path: Path, descriptor: int, worker: str, seconds: float, every: float
    ) -> None:
        self._path, self._descriptor, self._seconds, self._every = path, descriptor, seconds, every
        self._about = {"worker": worker, "lease": uuid.uuid4().hex, "boot": None}
        with contextlib.suppress(OSError):  # some shared file systems have no locks
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._about["boot"] = _boot()
        self._count, self._renewed = 0, time.monotonic()
        self._lost, self._released = threading.Event(), threading.Event()
        self._guard = threading.Lock()
        self._write()
        self._thread = threading.Thread(target=self._renew_at_intervals, daemon=True)
        self._thread.start()

    @property
    def lost(self) -> bool:
        """Whether another process has taken the lease: then stop, and write nothing more."""
        if time.monotonic() - self._renewed > self._seconds:  # this process was suspended
            self._renew()
        return self._lost.is_set()

    def release(self) -> None:
        """Let another process take the lease."""
        self._released.set()
        self._thread.join()
        if self._is_own():
            self._path.unlink(missing_ok=True)
        os.close(self._descriptor)

    def _renew_at_intervals(self) -> None:
        while not self._released.wait(self._every) and not self._lost.is_set():
            self._renew()

    def _renew(self) -> None:
        with self._guard:
            try:
                if not self._is_own():
                    self._lost.set()
                    return
                self._count += 1
                self._write()
                self._renewed = time.monotonic()
            except OSError:  # of a network file system, which may be back in time
                if time.monotonic() - self._renewed > self._seconds:
                    self._lost.set()

    def _is_own(self) -> bool:
        try:
            content = self._path.read_text(errors="replace")
        except FileNotFoundError:
            return False
        return str(self._about["lease"]) in content

    def _write(self) -> None:
        """Write the count through the open file, so that no other lease is ever overwritten.

        The size never changes, so that it stays one small write.
        """
        text = json.dumps({**self._about, "count": f"{self._count:012}"})
        os.pwrite(self._descriptor, text.encode(), 0)
        os.fsync(self._descriptor)


def _boot() -> str | None:
    """Return what identifies the running system since its start; None where it is not known."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None


def _is_left_by_the_dead(path: Path, content: str) -> bool:
    """Return whether the holder was a process of this system that has ended: its lock is gone."""
    with contextlib.suppress(ValueError, KeyError, OSError):
        boot = json.loads(content)["boot"]
        if boot is not None and boot == _boot():
            with path.open("r+b") as file:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                return True
    return False


def _remove(path: Path, content: str) -> bool:
    """Take away the lease with this content. Of several processes that try, one succeeds.

    If another process has already put its own lease there, it is put back.
    """
    aside = path.with_name(f".{path.name}.{uuid.uuid4().hex}")
    try:
        os.rename(path, aside)
    except FileNotFoundError:
        return False
    try:
        if aside.read_text(errors="replace") == content:
            return True
        with contextlib.suppress(OSError):  # a third lease is there, or there are no links
            os.link(aside, path)
        return False
    finally:
        aside.unlink(missing_ok=True)
