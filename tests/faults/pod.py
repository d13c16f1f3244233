"""One of two processes that train together into a bucket, and say how each of their runs ended."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from cnn.buckets import Bucket, BucketPath
from cnn.errors import InputError, RunError
from cnn.train import fit, lease
from cnn.train.checkpoints import Checkpoints
from experiments.launch import distributed, local
from experiments.launch.distributed import Processes
from tests.small import config, model

SETTINGS: dict[str, Any] = {"checkpoint_every": 5, "log_every": 5, "devices": None}
LARGE = {"model": model(features=4096), "shard_params": True}
"""A model with arrays that are large enough to be split."""
SECONDS = 900.0


def start(scenario: str, folder: Path) -> list[subprocess.Popen[str]]:
    """Start the two processes. Their temporary files are in `folder`."""
    command = [sys.executable, "-m", "tests.faults.pod", scenario, str(local._free_port())]
    flags = os.environ["XLA_FLAGS"] + " --xla_force_host_platform_device_count=1"
    env = {**os.environ, "XLA_FLAGS": flags, "TMPDIR": str(folder), "PYTHONUNBUFFERED": "1"}
    pipe = subprocess.PIPE
    return [
        subprocess.Popen([*command, str(i)], env=env, stdout=pipe, stderr=pipe, text=True)
        for i in range(2)
    ]


def finish(both: Sequence[subprocess.Popen[str]]) -> list[tuple[int, str, str]]:
    """Wait for the processes; return the exit code, output and errors of each."""
    try:
        said = [process.communicate(timeout=SECONDS) for process in both]
        return [(process.returncode, *each) for process, each in zip(both, said, strict=True)]
    finally:
        for process in both:
            process.kill()
            process.wait(timeout=30)


def report(name: str, out: str | None, **settings: Any) -> None:
    """Train, and print how that ended: with which weights, or which error."""
    hooks = {key: settings.pop(key) for key in ("stop", "on_step") if key in settings}
    path = None if out is None else BucketPath(f"s3://b/{out}")
    try:
        result = fit(config(path, **(SETTINGS | settings)), **hooks)
        end = ["ended", _digest((result.states[0].params, result.states[0].opt_state))]
    except (InputError, RunError) as error:
        end = [type(error).__name__, str(error)]
    print(json.dumps([name, *end]))


def _digest(tree: Any) -> str:
    digest = hashlib.sha256()
    for leaf in jax.tree.leaves(tree):
        whole = multihost_utils.process_allgather(leaf, tiled=True)
        digest.update(np.asarray(whole).tobytes())
    return digest.hexdigest()


def ends() -> None:
    """Let runs end in every way that process 0 knows of first."""
    report("straight", None)
    report("begun", "a", steps=10)
    report("not resumed", "a")
    report("resumed", "a", resume=True)
    report("of one process", "of-one", resume=True)
    report("of another run", "a", resume=True, lr=0.1)
    report("too far", "a", resume=True, steps=5)
    if jax.process_index() == 0:
        Bucket(BucketPath("s3://b/a")).write("checkpoints/20/states/_METADATA", b"damaged")
    report("damaged", "a", resume=True)
    report("straight in parts", None, **LARGE)
    report("begun in parts", "parts", steps=10, **LARGE)
    report("resumed in parts", "parts", resume=True, **LARGE)
    report("stopped", "stopped", stop=lambda step: step == 7)
    report("diverged", "diverged", lr=1e30)
    report("in use", "in-use")
    report("refused", "refused", steps=5)
    lease.SECONDS = 3.0
    report("lost", "lost", steps=400, stop=_take_lease)
    lease.SECONDS = 60.0
    if jax.process_index() == 0:
        Checkpoints.write = _fail  # type: ignore[method-assign]
    report("full", "full")


def _take_lease(step: int) -> bool:
    if step == 3 and jax.process_index() == 0:
        Bucket(BucketPath("s3://b/lost")).write(f".lease/{10**9:012}", b"another")
        time.sleep(1.5)
    return False


def _fail(self: Checkpoints, *args: object) -> None:
    raise RunError("the disk is full")


def long() -> None:
    """Train for so long that there is time to kill it, and go on with what is there."""
    report("straight", None, steps=60)
    report("resumed", "killed", steps=60, resume=True, on_step=lambda steps: time.sleep(0.2))


if __name__ == "__main__":
    scenario, port, number = sys.argv[1:]
    joined = {"coordinator": f"localhost:{port}", "processes": 2, "process_id": int(number)}
    with distributed.join(Processes(**joined, heartbeat_timeout=60)):
        {"ends": ends, "long": long}[scenario]()
