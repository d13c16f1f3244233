"""Runs of two processes into a bucket end like those of one on a disk, or all with one line."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from cnn.buckets import BucketPath
from cnn.train import fit, lease, load_run
from experiments.launch.distributed import LOST
from tests.faults import pod
from tests.object_store import Fault, Store
from tests.reliability import Tally
from tests.small import assert_close, config

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
]


def told(said: str) -> dict[str, list[str]]:
    """Return how each run ended, by its name."""
    lines = [json.loads(line) for line in said.splitlines() if line.startswith('["')]
    return {name: end for name, *end in lines}


def seals(store: Store, run: str) -> list[int]:
    """Return the steps of the complete checkpoints."""
    names = [name.split("/") for name in store.names(f"b/{run}/checkpoints")]
    return sorted(int(name[0]) for name in names if name[-1] == "sha256.json")


def metrics(content: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in content.splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def test_every_end_is_the_same_in_both(store: Store, tmp_path: Path, tally: Tally) -> None:
    settings = pod.SETTINGS | {"devices": 2}
    alone = fit(config(tmp_path / "run", **settings))
    fit(config(BucketPath("s3://b/of-one"), **(settings | {"steps": 10})))
    store.faults = [Fault("PUT b/refused/.*sha256", 403, times=1e9)]
    held = lease.hold(BucketPath("s3://b/in-use"), 3.0)
    try:
        (code, said, why), (other_code, other_said, other_why) = pod.finish(
            pod.start("ends", tmp_path)
        )
    finally:
        held.release()
    assert (code, other_code) == (0, 0), (said, why, other_said, other_why)
    ends = told(said)
    assert ends == told(other_said)

    assert ends["resumed"] == ends["damaged"] == ends["straight"]
    assert ends["begun"][0] == ends["of one process"][0] == "ended"
    assert ends["resumed in parts"] == ends["straight in parts"]
    assert ends["begun in parts"][0] == "ended"
    errors = {
        "not resumed": ["InputError", "out 's3://b/a' contains a run: add --resume or --over"],
        "of another run": ["InputError", "recipe.lr: 0.01 is not 0.1"],
        "too far": ["InputError", "steps must be at least 20, the step of the newest checkp"],
        "stopped": ["Stopped", "stopped after step 7"],
        "diverged": ["Diverged", ""],
        "in use": ["InputError", "out 's3://b/in-use' is in use by another process: wait"],
        "refused": ["RunError", "s3://b/refused cannot be written ("],
        "lost": ["RunError", "the lease of s3://b/lost was lost, to another process"],
        "full": ["RunError", "the disk is full"],
    }
    for name, (kind, text) in errors.items():
        assert ends[name][0] == kind, name
        assert text in ends[name][1], name

    assert seals(store, "a") == [15, 20]
    assert any(name.startswith("corrupt/20/") for name in store.names("b/a"))
    assert seals(store, "stopped") == [5, 7]
    assert "diverged.json" in store.names("b/diverged")
    straight = tuple(state.variables for state in alone.states)
    logged = metrics((tmp_path / "run" / "metrics.jsonl").read_text())
    for run in ("a", "of-one"):
        assert_close(load_run(f"s3://b/{run}").variables, straight, 1e-6)
        lines = metrics(store.objects[f"b/{run}/metrics.jsonl"][0].decode())
        assert [line["step"] for line in lines] == [line["step"] for line in logged]
        assert_close(
            [line["train_loss"] for line in lines], [line["train_loss"] for line in logged], 1e-5
        )
    # One process goes on with what two have saved.
    longer = fit(config(BucketPath("s3://b/a"), **settings, resume=True, steps=30))
    onward = fit(config(tmp_path / "run", **settings, resume=True, steps=30))
    assert_close(longer.states[0].params, onward.states[0].params, 1e-6)
    tally("runs of two processes into a bucket that end: both with the same line", len(errors))


def test_killed_and_resumed(store: Store, tmp_path: Path, tally: Tally) -> None:
    """Process 0 is killed, and the other ends; both are killed; the third start ends the run."""
    for kill in ([0], [0, 1]):
        before = max(seals(store, "killed"), default=0)
        both = pod.start("long", tmp_path)
        try:
            until = time.monotonic() + pod.SECONDS
            while max(seals(store, "killed"), default=0) < before + 5:
                assert time.monotonic() < until, "no checkpoint"
                assert both[0].poll() is None, both[0].communicate(timeout=30)
                time.sleep(0.1)
            for number in kill:
                both[number].kill()
        finally:
            ended = pod.finish(both)
        assert ended[0][0] == -9
        assert "resumed" not in told(ended[0][1])
        assert ended[1][0] != 0
        assert LOST in ended[1][2]
        assert max(seals(store, "killed")) < 60
    ended = pod.finish(pod.start("long", tmp_path))
    for code, said, why in ended:
        assert code == 0, why
        assert told(said)["resumed"] == told(said)["straight"]
    tally("kills (`kill -9`) of two processes that train into a bucket, the end state equal", 2)
