"""Leases in folders and buckets: one holder at a time, taken over when it is dead."""

from __future__ import annotations

import errno
import io
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import pytest

from cnn.buckets import Bucket, BucketPath
from cnn.errors import InputError, RunError
from cnn.train.lease import RELEASED, SUFFIX, Lease, Leases, hold, is_held, newest
from cnn.train.store import Folder
from tests import object_store
from tests.object_store import LOST, Fault

RUN = BucketPath("s3://b/run")


@pytest.fixture(params=["folder", "bucket"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path | BucketPath]:
    """A folder, and one in a bucket."""
    if request.param == "bucket":
        request.getfixturevalue("store")
        yield RUN
    else:
        yield tmp_path / "q"


def taken(leases: Leases, name: str = "a") -> Lease:
    found = leases.take(name)
    assert found is not None
    return found


def wait_until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def store_of(place: Path | BucketPath) -> Bucket | Folder:
    return Bucket(place) if isinstance(place, BucketPath) else Folder(place)


def content(place: Path | BucketPath, name: str = "a") -> bytes:
    """Return the content of the newest object of a lease."""
    return store_of(place).read(max(store_of(place).entries(f"{name}{SUFFIX}")))


def elsewhere(place: Path | BucketPath, number: int = 1) -> None:
    """Write what a worker on another machine writes."""
    assert store_of(place).create(f"a{SUFFIX}/{number:012}", b'{"alive": "/not/on/this/machine"}')


def suspended(lease: Lease) -> None:
    """End the thread that renews a lease, as that of a suspended process."""
    lease._released.set()
    lease._thread.join()


def test_one_worker_holds_a_lease_until_it_releases_it(place: Path | BucketPath) -> None:
    one, other = Leases(place), Leases(place)
    assert not one.is_held("a")
    held = taken(one)
    assert other.take("a") is None and one.take("a") is None
    assert other.is_held("a")
    taken(other, "b").release()
    held.release()
    assert not other.is_held("a")
    assert content(place) == RELEASED
    assert len(store_of(place).entries(f"a{SUFFIX}")) == 1  # old numbers are removed
    taken(other).release()
    assert other.newest("a") == 4  # the numbers go on


def test_of_many_that_try_at_once_one_succeeds(tmp_path: Path) -> None:
    elsewhere(tmp_path)
    workers = [Leases(tmp_path, seconds=0.05, every=100) for _ in range(8)]
    for worker in workers:
        assert worker.take("a") is None  # now each has seen it
    time.sleep(0.06)
    barrier, got = threading.Barrier(len(workers)), list[Lease]()

    def try_to_take(worker: Leases) -> None:
        barrier.wait(timeout=20)
        if (found := worker.take("a")) is not None:
            got.append(found)

    threads = [threading.Thread(target=try_to_take, args=(worker,)) for worker in workers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=20)
    (kept,) = got
    assert not kept.lost
    kept.release()


def test_a_lease_is_renewed_so_that_nobody_takes_it(place: Path | BucketPath) -> None:
    held = taken(Leases(place, seconds=0.5))
    other = Leases(place, seconds=0.5)
    end = time.monotonic() + 1.2
    while time.monotonic() < end:
        assert other.take("a") is None
        time.sleep(0.01)
    assert not held.lost
    held.release()


def test_a_lease_that_does_not_change_is_taken_by_ones_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    elsewhere(tmp_path)
    other = Leases(tmp_path, seconds=60, every=1e6)
    assert other.take("a") is None
    now += 59
    assert other.take("a") is None
    elsewhere(tmp_path, number=2)
    now += 2
    assert other.take("a") is None  # it has changed
    now += 59
    assert other.is_held("a")
    now += 1
    assert not other.is_held("a")
    held = taken(other)
    assert other.newest("a") == 3
    held.release()


def test_who_has_lost_a_lease_knows_it_and_takes_nothing(place: Path | BucketPath) -> None:
    """It was suspended. The number that it wrote has been removed, and is free again."""
    leases = Leases(place, seconds=0.3, every=1e6)
    old = taken(leases)
    suspended(old)
    other = Leases(place, seconds=0.3)
    assert other.take("a") is None
    time.sleep(0.35)
    heir = taken(other)
    wait_until(lambda: other.newest("a") > 3)  # its next number is free, too
    assert old.lost and not heir.lost
    old.release()
    heir.release()
    assert content(place) == RELEASED


def test_a_worker_looks_again_after_a_pause(tmp_path: Path) -> None:
    """Its thread may not yet have run when training asks."""
    held = taken(Leases(tmp_path, seconds=0.05, every=1e6))
    assert not held.lost
    elsewhere(tmp_path, number=2)
    assert not held.lost
    time.sleep(0.06)
    assert held.lost
    held.release()


@pytest.mark.fault
def test_the_lease_of_a_process_of_this_machine_that_was_killed_is_free_at_once(
    tmp_path: Path,
) -> None:
    program = (
        "import sys, time; from pathlib import Path; from cnn.train.lease import Leases\n"
        "held = Leases(Path(sys.argv[1])).take('a'); print('taken', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    env = {**os.environ, "TMPDIR": str(tmp_path)}  # where a killed process leaves its lock
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=env)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "taken\n"
        other = Leases(tmp_path, seconds=1e6)
        assert other.take("a") is None
        process.send_signal(signal.SIGSTOP)  # suspended is not dead
        assert other.take("a") is None
    finally:
        process.kill()
        process.communicate(timeout=60)
    assert not other.is_held("a")
    taken(other).release()


def test_a_run_waits_for_a_silent_holder_and_not_for_one_that_renews(
    place: Path | BucketPath,
) -> None:
    first = hold(place, seconds=0.6)
    with pytest.raises(InputError, match=r"^out '.*' is in use by another process"):
        hold(place, seconds=0.6)
    suspended(first)
    began = time.monotonic()
    heir = hold(place, seconds=0.6)
    assert time.monotonic() - began >= 0.5
    time.sleep(0.2)
    assert first.lost and not heir.lost
    heir.release()
    hold(place, seconds=60).release()  # at once


def test_a_file_that_is_not_yet_written_is_held(tmp_path: Path) -> None:
    (tmp_path / f"a{SUFFIX}").mkdir()
    (tmp_path / f"a{SUFFIX}" / f"{1:012}").touch()
    assert Leases(tmp_path).take("a") is None


def test_a_lease_that_cannot_be_taken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file/a\.lease' cannot be taken \(Not a directory\): "):
        Leases(tmp_path / "file").take("a")

    def refuse(*args: object) -> bool:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Folder, "create", refuse)
    with pytest.raises(
        InputError, match=r"a\.lease' cannot be taken \(Permission denied\): make its folder "
    ):
        Leases(tmp_path).take("a")


def test_answers_that_fail_or_are_lost_cost_nothing(store: object_store.Store) -> None:
    store.faults += [Fault("PUT .*lease", LOST), Fault("PUT .*lease", 503), Fault("GET b$", 503)]
    lease = hold(RUN, seconds=3)
    assert not lease.lost
    lease.release()
    assert content(RUN, "") == RELEASED


def test_a_bucket_that_does_not_answer_for_long(store: object_store.Store) -> None:
    lease = hold(RUN, seconds=0.3)
    store.faults.append(Fault("lease", 403, times=1e9))
    time.sleep(0.5)
    assert lease.lost
    lease.release()


def test_a_bucket_that_refuses_is_one_line(store: object_store.Store) -> None:
    store.faults.append(Fault("", 403))
    with pytest.raises(RunError, match=r"^lease 's3://b/run/a\.lease' cannot be taken \(.*403"):
        Leases(RUN).take("a")


def test_a_renewal_for_which_there_is_no_room_is_made_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = taken(Leases(tmp_path, seconds=60, every=1e6))
    real = io.FileIO.write

    class Full(io.FileIO):
        def write(self, content: Any) -> int:
            real(self, content[:3])
            raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", lambda path, mode, buffering: Full(path, mode[0]))
        held._renew()
    held._renew()
    assert not held.lost
    assert Leases(tmp_path).newest("a") == 2
    held.release()


def test_a_store_that_overwrites_is_refused(store: object_store.Store) -> None:
    store.is_exclusive = False
    with pytest.raises(InputError, match="was overwritten by what was to be created only if"):
        hold(RUN, seconds=60)


def test_what_others_see(store: object_store.Store) -> None:
    bucket = Bucket(BucketPath("s3://b"))
    lease = hold(RUN, seconds=60)
    assert newest(bucket.entries()) == 1
    assert is_held(bucket, PurePosixPath("run"), bucket.entries())
    assert not is_held(bucket, PurePosixPath("other"), bucket.entries())
    lease.release()
    assert not is_held(bucket, PurePosixPath("run"), bucket.entries())
