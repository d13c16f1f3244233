"""Runs in buckets that are killed, refused and kept waiting end like an uninterrupted one."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from cnn.buckets import BucketPath
from cnn.train import bucket_lease, fit, mirror
from cnn.train.checkpoints import is_intact
from cnn.train.run_dir import read_metrics
from tests.faults.processes import SECONDS, SMALL, assert_same_end, environment, kill, run
from tests.object_store import LOST, Fault, Store
from tests.reliability import Tally
from tests.small import assert_same, config

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
]
OFTEN = """
from cnn.train import mirror
from experiments import train
from experiments.harness import cli
mirror.EVERY = 0.2
cli.run(train.main, train.Flags)
"""
OTHERS = [
    *(Fault("", 503, times=1) for _ in range(3)),
    *(Fault("PUT .*/states/", status, times=3) for status in (503, LOST)),
    *(Fault("PUT .*lease/", status, times=1) for status in (503, LOST)),
    *(Fault("PUT .*/sha256.json", status, times=1) for status in (503, LOST)),
    *(Fault(method, seconds=1.0, times=3) for method in ("GET", "PUT", "DELETE")),
]
"""Answers that are 503, are lost, and so 412 when the request is sent again, or are slow."""


@pytest.fixture
def started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[list[subprocess.Popen]]:
    """Yield a list of processes, which are killed at the end."""
    (tmp_path / "temporary").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "temporary"))
    processes: list[subprocess.Popen] = []
    yield processes
    for process in processes:
        kill(process)


def start(args: list[str], cache: Path) -> subprocess.Popen:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", OFTEN, *args]
    return subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment(cache))


def wait_for(fault: Fault, process: subprocess.Popen) -> None:
    """Wait until a request with this fault came."""
    end = time.monotonic() + SECONDS
    while fault.times > 0:
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < end
        time.sleep(0.01)


def test_what_a_kill_may_leave_at_any_request(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """After every single change of the bucket all checkpoints with a manifest are whole.

    The newest is never older than before, and the metrics lead up to it.
    """
    run = BucketPath("s3://b/run")
    settings = {"steps": 30, "checkpoint_every": 10, "keep_last": 1, "log_every": 10}
    straight = fit(config(**settings))
    monkeypatch.setattr(mirror, "EVERY", 0.02)
    fit(config(run, **settings), on_step=lambda steps: time.sleep(0.5))
    past, newest = store.past, 0
    for moment, objects in enumerate(past):
        names = {key.removeprefix("b/run/"): content for key, (content, _) in objects.items()}
        out = tmp_path / str(moment)
        for name in mirror._complete(names):  # what is read from the bucket
            (out / name).parent.mkdir(parents=True, exist_ok=True)
            (out / name).write_bytes(names[name])
        steps = [int(path.name) for path in out.glob("checkpoints/*")]
        assert all(is_intact(out / "checkpoints" / str(step), step) for step in steps)
        assert max(steps, default=0) >= newest
        newest = max(steps, default=0)
        logged = {line["step"] for line in read_metrics(out)}
        assert logged >= set(range(10, newest + 1, 10))
    assert newest == 30
    monkeypatch.setattr(bucket_lease, "SECONDS", 5.0)  # the dead one's lease is waited for
    for objects in (past[len(past) // 3], past[len(past) // 2]):
        store.objects = dict(objects)
        ended = fit(config(run, **settings, resume=True))
        for state, other in zip(ended.states, straight.states, strict=True):
            assert_same((state.params, state.opt_state), (other.params, other.opt_state))
    tally("moments at which a run into a bucket may be killed: its checkpoints whole", len(past))


def test_killed_while_a_second_run_waits_and_the_bucket_fails(
    store: Store, started: list[subprocess.Popen], tmp_path: Path, tally: Tally
) -> None:
    args = [*SMALL, "--steps", "200", "--resume", "--out"]
    assert run([*args, str(tmp_path / "straight")], tmp_path / "cache").returncode == 0
    fault = Fault("PUT .*/sha256.json", seconds=SECONDS)
    store.faults.append(fault)
    process = start([*args, "s3://b/run"], tmp_path / "cache")
    started.append(process)
    wait_for(fault, process)
    second = run([*args, "s3://b/run"], tmp_path / "cache")
    assert (second.returncode, second.stderr) == (
        2,
        "error: out 's3://b/run' is in use by another process: wait until it ends, or choose "
        "another\n",
    )
    kill(process)
    store.faults += OTHERS
    done = start([*args, "s3://b/run"], tmp_path / "cache")
    started.append(done)
    _, said = done.communicate(timeout=SECONDS)
    assert done.returncode == 0, said
    assert not [fault for fault in store.faults if fault.times > 0]
    with mirror.copied(BucketPath("s3://b/run"), checkpoints=True) as out:
        assert_same_end(out, tmp_path / "straight")
    tally("kills of a run into a bucket, its end state equal bit for bit", 1)
    tally("second runs in one bucket's folder: refused, and let in when the first was dead", 1)
    tally("answers of a bucket that are 503, lost (then 412) or slow", len(OTHERS))
