"""Leases: one holder at a time, renewed while it lives, taken over when it is dead."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from cnn.errors import InputError
from experiments.harness import lease
from experiments.harness.lease import Lease, Leases


def wait_until(holds: Callable[[], object], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.01)


def taken(leases: Leases, name: str = "a") -> Lease:
    found = leases.take(name)
    assert found is not None
    return found


def elsewhere(folder: Path, name: str = "a", count: int = 0) -> Path:
    """Write the lease of a worker on another host."""
    folder.mkdir(exist_ok=True)
    path = folder / f"{name}.lease"
    path.write_text(json.dumps({"worker": "far:1:x", "lease": "far", "boot": "x", "count": count}))
    return path


def test_one_worker_holds_a_lease_until_it_releases_it(tmp_path: Path) -> None:
    one, other = Leases(tmp_path / "q"), Leases(tmp_path / "q")
    held = taken(one)
    assert other.take("a") is None and one.take("a") is None
    assert other.holder("a") == one.worker
    taken(other, "b").release()
    held.release()
    assert other.holder("a") is None
    taken(other).release()
    assert not list((tmp_path / "q").iterdir())


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
    time.sleep(0.06)  # one may have taken the lease of another, who finds out at a renewal
    kept = [held for held in got if not held.lost]
    assert len(kept) == 1
    for held in got:
        held.release()


def test_a_lease_is_renewed_so_that_nobody_takes_it(tmp_path: Path) -> None:
    held = taken(Leases(tmp_path, seconds=0.3))
    other = Leases(tmp_path, seconds=0.3)
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        assert other.take("a") is None
        time.sleep(0.01)
    assert not held.lost
    held.release()


def test_a_lease_that_does_not_change_is_taken_by_ones_own_clock(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The time in the file, that of its host, says nothing."""
    path = elsewhere(tmp_path)
    os.utime(path, (0, 0))
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    other = Leases(tmp_path, seconds=60, every=1e6)
    assert other.take("a") is None
    now += 59
    assert other.take("a") is None
    elsewhere(tmp_path, count=1)
    now += 2
    assert other.take("a") is None  # it has changed
    now += 59
    assert other.take("a") is None
    assert other.holder("a") == "far:1:x"
    now += 1
    assert other.holder("a") is None
    held = taken(other)
    assert other.worker in path.read_text()
    held.release()


def test_who_has_lost_a_lease_knows_it_and_removes_nothing(tmp_path: Path) -> None:
    held = taken(Leases(tmp_path, seconds=60, every=0.02))
    path = elsewhere(tmp_path / "other")
    os.replace(path, tmp_path / "a.lease")
    wait_until(lambda: held.lost)
    held.release()
    assert "far" in (tmp_path / "a.lease").read_text()


def test_a_suspended_worker_looks_before_it_goes_on(tmp_path: Path) -> None:
    """Its thread may not yet have run when training asks."""
    held = taken(Leases(tmp_path, seconds=0.05, every=1e6))
    assert not held.lost
    (tmp_path / "a.lease").unlink()
    time.sleep(0.06)
    assert held.lost
    held.release()


def test_renewing_never_overwrites_the_lease_of_another(tmp_path: Path) -> None:
    """The count is written into the file that was created, whatever name it has now."""
    held = taken(Leases(tmp_path, seconds=60, every=1e6))
    theirs = elsewhere(tmp_path / "other").read_text()
    os.replace(tmp_path / "other" / "a.lease", tmp_path / "a.lease")
    held._count = 7
    held._write()
    assert (tmp_path / "a.lease").read_text() == theirs
    held.release()


def test_a_lease_that_was_replaced_in_the_meantime_is_put_back(tmp_path: Path) -> None:
    path = elsewhere(tmp_path, count=2)
    assert not lease._remove(path, "what was there before")
    assert json.loads(path.read_text())["count"] == 2
    assert lease._remove(path, path.read_text())
    assert not list(tmp_path.iterdir())
    assert not lease._remove(path, "")


@pytest.mark.fault
def test_the_lease_of_a_process_of_this_host_that_was_killed_is_free_at_once(
    tmp_path: Path,
) -> None:
    program = (
        "import sys, time; from pathlib import Path; from experiments.harness.lease import Leases\n"
        "held = Leases(Path(sys.argv[1])).take('a'); print('taken', flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", program, str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "taken\n"
        other = Leases(tmp_path, seconds=1e6)
        assert other.take("a") is None
        assert other.holder("a") is not None
        process.send_signal(signal.SIGSTOP)  # suspended is not dead
        assert other.take("a") is None
    finally:
        process.kill()
        process.communicate(timeout=60)
    if lease._boot() is None:
        pytest.skip("this system does not tell one start from another")
    assert other.holder("a") is None
    taken(other).release()


def test_a_lease_that_cannot_be_taken_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"file' must be a folder: move it away"):
        Leases(tmp_path / "file").take("a")

    def refuse(*args: object) -> int:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(os, "open", refuse)
    with pytest.raises(
        InputError, match=r"a\.lease' cannot be taken \(Permission denied\): make its folder "
    ):
        Leases(tmp_path).take("a")
