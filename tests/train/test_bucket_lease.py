"""The lease of a run folder in a bucket: one holder, whatever happens to the others."""

from __future__ import annotations

import time
from pathlib import Path, PurePosixPath

import pytest
from filelock import FileLock

from cnn.buckets import Bucket, BucketPath
from cnn.errors import InputError, RunError
from cnn.train.bucket_lease import FOLDER, RELEASED, BucketLease, is_held, newest
from cnn.train.run_dir import LOCK
from tests.object_store import LOST, Fault, Store

RUN = BucketPath("s3://b/run")


def keys(store: Store) -> list[str]:
    return sorted(key for key in store.objects if FOLDER in key)


def wait_until(store: Store, count: int) -> None:
    """Wait until the newest lease has this number at least."""
    end = time.monotonic() + 20
    while int(keys(store)[-1].rpartition("/")[2]) < count:
        assert time.monotonic() < end
        time.sleep(0.02)


def test_one_holds_it_and_the_next_may_when_it_is_released(store: Store, tmp_path: Path) -> None:
    (tmp_path / "first").mkdir()
    with FileLock(tmp_path / "first" / LOCK):
        first = BucketLease(RUN, tmp_path / "first", seconds=1.2)
        with pytest.raises(InputError, match=r"^out 's3://b/run' is in use by another process"):
            BucketLease(RUN, tmp_path / "second", seconds=1.2)
        wait_until(store, 4)
        first.check()
        first.release()
    assert len(keys(store)) == 1  # old numbers are removed
    assert store.objects[keys(store)[0]][0] == RELEASED
    second = BucketLease(RUN, tmp_path / "second", seconds=60)
    second.check()
    second.release()


def test_a_dead_process_of_this_machine_holds_nothing(store: Store, tmp_path: Path) -> None:
    """Its lock is gone, so nobody waits until the lease is old."""
    (tmp_path / "dead").mkdir()
    with FileLock(tmp_path / "dead" / LOCK):
        dead = BucketLease(RUN, tmp_path / "dead", seconds=60)
    began = time.monotonic()
    BucketLease(RUN, tmp_path, seconds=60).release()
    assert time.monotonic() - began < 5
    dead._released.set()


def test_a_dead_process_elsewhere_loses_it_after_a_while(store: Store, tmp_path: Path) -> None:
    """As does one that was suspended: it finds out before it writes again."""
    dead = BucketLease(RUN, tmp_path / "on another machine", seconds=0.6)
    dead._released.set()  # its thread ends, as that of a suspended process
    dead._thread.join()
    began = time.monotonic()
    heir = BucketLease(RUN, tmp_path, seconds=0.6)
    assert time.monotonic() - began >= 0.6
    time.sleep(0.1)
    with pytest.raises(RunError, match=r"the lease of s3://b/run was lost.*--resume"):
        dead.check()
    heir.check()
    heir.release()
    dead.release()  # which takes nothing from anybody
    assert store.objects[keys(store)[-1]][0] == RELEASED


def test_an_old_holder_does_not_return(store: Store, tmp_path: Path) -> None:
    """Its next number is free again, because old ones are removed; but it is not the newest."""
    old = BucketLease(RUN, tmp_path, seconds=60)
    old._released.set()
    store.objects[f"b/run/{FOLDER}/{9:012}"] = b"another", store.objects[keys(store)[0]][1]
    old._renewed -= 61
    with pytest.raises(RunError, match="was lost"):
        old.check()


def test_answers_that_fail_or_are_lost_cost_nothing(store: Store, tmp_path: Path) -> None:
    store.faults += [Fault("PUT .*lease", LOST), Fault("PUT .*lease", 503), Fault("GET b$", 503)]
    lease = BucketLease(RUN, tmp_path, seconds=3)
    lease.check()
    lease.release()
    assert store.objects[keys(store)[0]][0] == RELEASED


def test_a_bucket_that_does_not_answer_for_long(store: Store, tmp_path: Path) -> None:
    lease = BucketLease(RUN, tmp_path, seconds=0.3)
    store.faults.append(Fault("lease", 403, times=1e9))
    time.sleep(0.5)
    with pytest.raises(RunError, match=r"did not answer for 0\.3 seconds"):
        lease.check()
    lease.release()


def test_a_store_that_overwrites_is_refused(store: Store, tmp_path: Path) -> None:
    store.is_exclusive = False
    with pytest.raises(InputError, match="overwrites an object that it was told to create"):
        BucketLease(RUN, tmp_path)


def test_what_others_see(store: Store, tmp_path: Path) -> None:
    bucket = Bucket(BucketPath("s3://b"))
    lease = BucketLease(RUN, tmp_path)
    assert newest(bucket.entries()) == 1
    assert is_held(bucket, PurePosixPath("run"), bucket.entries())
    assert not is_held(bucket, PurePosixPath("other"), bucket.entries())
    lease.release()
    assert not is_held(bucket, PurePosixPath("run"), bucket.entries())
