"""The lease of a run folder in a bucket, which keeps a second process out.

A lease is a row of numbered objects. Each is only ever created, and only if it does not exist: that
is all that the store must be able to do. Who creates the next number holds the lease, and renews it
in the same way. A process that has seen the newest number unchanged for too long, by its own clock,
creates the next one: the holder is dead, or was suspended and finds that it has lost the lease.
"""

from __future__ import annotations

import json
import os
import socket
import threading
import time
import uuid
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path, PurePosixPath
from typing import Any

from cnn.buckets import Bucket, BucketPath, Entry
from cnn.errors import InputError, RunError
from cnn.train.run_dir import LOCK, is_locked

FOLDER = ".lease"
SECONDS = 60.0
"""A lease that is unchanged for so long is free."""
RENEWALS = 6
"""Renewals in that time."""
RELEASED = b"released"


class BucketLease:
    """The lease of a run folder, held until `release`.

    Args:
        path: The run folder.
        local: A folder of this machine that this process has locked. Another process of the same
            machine sees by the lock whether this one is alive.
        seconds: How long a lease is unchanged until it is free.

    Raises:
        InputError: If another process holds it, or the store cannot create an object exclusively.
    """

    def __init__(self, path: BucketPath, local: Path, seconds: float = SECONDS) -> None:
        self.path, self._seconds = path, seconds
        self._bucket = Bucket(path, retry=seconds / RENEWALS)
        holder = {"host": socket.gethostname(), "pid": os.getpid(), "folder": str(local)}
        self._about = {**holder, "lease": uuid.uuid4().hex}
        self._number = self._wait_until_free()
        if not self._advance():
            raise self._in_use()
        if self._bucket.create(_name(self._number), b"another"):
            raise InputError(
                f"out {str(path)!r}: its store overwrites an object that it was told to create, so "
                "nothing keeps a second process out: choose another"
            )
        self._renewed = time.monotonic()
        self._lost, self._released = threading.Event(), threading.Event()
        self._guard = threading.Lock()
        self._thread = threading.Thread(target=self._renew_at_intervals, daemon=True)
        self._thread.start()

    def check(self) -> None:
        """Raise `RunError` if another process holds the lease now, or may hold it."""
        if time.monotonic() - self._renewed > self._seconds:  # this process was suspended
            self._renew()
        if self._lost.is_set():
            raise RunError(
                f"the lease of {self.path} was lost, to another process or because the bucket did "
                f"not answer for {self._seconds:g} seconds: continue with --resume"
            )

    def release(self) -> None:
        """Let another process take the lease. The numbers go on, so that no old one returns."""
        self._released.set()
        self._thread.join()
        with suppress(OSError):  # it is free after a while
            if not self._lost.is_set() and self._bucket.create(_name(self._number + 1), RELEASED):
                self._bucket.remove([_name(self._number)])

    def _wait_until_free(self) -> int:
        """Return the newest number, 0 if there is none, when nobody holds it any more."""
        began, first = time.monotonic(), newest(self._bucket.entries(FOLDER))
        while first and not self._is_free(first):
            if newest(self._bucket.entries(FOLDER)) != first:
                raise self._in_use()
            if time.monotonic() - began >= self._seconds:
                break
            time.sleep(self._seconds / RENEWALS / 4)
        return first

    def _is_free(self, number: int) -> bool:
        """Return whether a lease was released, or left by a dead process of this machine."""
        try:
            content = self._bucket.read(_name(number))
        except FileNotFoundError:  # it has just been renewed
            return False
        if content == RELEASED:
            return True
        with suppress(ValueError, LookupError, TypeError):
            local = Path(json.loads(content)["folder"])
            return (local / LOCK).is_file() and not is_locked(local)
        return False

    def _in_use(self) -> InputError:
        why = "is in use by another process: wait until it ends, or choose another"
        return InputError(f"out {str(self.path)!r} {why}")

    def _renew_at_intervals(self) -> None:
        while not self._released.wait(self._seconds / RENEWALS) and not self._lost.is_set():
            self._renew()

    def _renew(self) -> None:
        with self._guard:
            try:
                if self._advance():
                    self._renewed = time.monotonic()
                else:
                    self._lost.set()
            except OSError:  # the bucket may be back in time
                if time.monotonic() - self._renewed > self._seconds:
                    self._lost.set()

    def _advance(self) -> bool:
        """Create the next number. Return False if another process has created it, or later ones."""
        number = self._number + 1
        content: dict[str, Any] = {**self._about, "number": number}
        if not self._bucket.create(_name(number), json.dumps(content).encode()):
            return False
        listed = self._bucket.entries(FOLDER)
        if newest(listed) != number:  # ours was removed long ago, and others went on
            return False
        self._number = number
        self._bucket.remove(sorted(listed.keys() - {_name(number)}))
        return True


def newest(entries: Mapping[str, Entry]) -> int:
    """Return the greatest number in the list of a lease's objects, 0 if there is none."""
    numbers = (name.rpartition("/")[2] for name in entries)
    return max((int(number) for number in numbers if number.isdecimal()), default=0)


def is_held(bucket: Bucket, run: PurePosixPath, entries: Mapping[str, Entry]) -> bool:
    """Return whether the lease of `run`, a folder in the bucket, seems to be held.

    The store's clock is compared with that of this machine.
    """
    folder = run / FOLDER
    listed = {name: one for name, one in entries.items() if PurePosixPath(name).parent == folder}
    name = str(run / _name(newest(listed)))
    if name not in listed:
        return False
    age = (datetime.now(UTC) - listed[name].modified).total_seconds()
    return age < SECONDS and bucket.read(name) != RELEASED


def _name(number: int) -> str:
    return f"{FOLDER}/{number:012}"
