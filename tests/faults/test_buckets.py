"""Runs in buckets that are killed end like an uninterrupted one."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest

from cnn.buckets import BucketPath
from cnn.train import fit, lease, mirror
from cnn.train.checkpoints import is_intact
from cnn.train.run_dir import read_metrics
from tests.faults import processes
from tests.object_store import Fault, Store
from tests.reliability import Tally
from tests.small import assert_same, config

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
]


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
    monkeypatch.setattr(lease, "SECONDS", 5.0)  # the dead one's lease is waited for
    for objects in (past[len(past) // 3], past[len(past) // 2]):
        store.objects = dict(objects)
        ended = fit(config(run, **settings, resume=True))
        for state, other in zip(ended.states, straight.states, strict=True):
            assert_same((state.params, state.opt_state), (other.params, other.opt_state))
    tally("moments at which a run into a bucket may be killed: its checkpoints whole", len(past))


def kill_in_the_middle(process: subprocess.Popen[str], hanging: Fault) -> None:
    """Kill a process while it waits for the answer to a request that hangs."""
    end = time.monotonic() + processes.SECONDS
    try:
        while hanging.times and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)
        assert process.poll() is None, f"it ended before {hanging.pattern}"
    finally:
        processes.kill(process)
    time.sleep(hanging.seconds)  # the store still does what it was asked


MOMENTS = [
    ("s3", "PUT .*metrics"),
    ("gs", "PUT .*checkpoints"),
    ("s3", "PUT .*sha256"),
    ("gs", "DELETE .*checkpoints"),
]
"""Requests in the middle of which a process is killed, one after another."""


def test_killed_while_a_slow_bucket_answers(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tally: Tally
) -> None:
    """`kill -9` in the middle of a copy, at each kind of request; every answer takes a while.

    The store holds the same objects for both schemes, so that one run goes through both.
    """
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # where a killed process leaves its copy
    straight, cache = tmp_path / "straight", tmp_path / "cache"
    args = [*processes.SMALL, "--steps", "400", "--resume", "--out"]
    assert processes.run([*args, str(straight)], cache).returncode == 0
    slow = Fault("", seconds=0.02, times=1e9)
    for scheme, moment in MOMENTS:
        hanging = Fault(moment, seconds=2.0)
        store.faults = [hanging, slow]
        kill_in_the_middle(processes.start([*args, f"{scheme}://b/run"], cache), hanging)
    store.faults = [slow]
    done = processes.run([*args, "gs://b/run"], cache)
    assert done.returncode == 0, done.stderr
    with mirror.copied(BucketPath("s3://b/run"), checkpoints=True) as copy:
        processes.assert_same_end(copy, straight)
    tally(
        "kills (`kill -9`) of a run into a slow bucket, its end state equal bit for bit",
        len(MOMENTS),
    )
