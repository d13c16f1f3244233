"""Start training in other processes, to kill them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

SMALL = ["--model", "cnn1d", "--data", "mnist1d", "--batch-size", "8", "--lr", "1e-2"]
SMALL += ["--devices", "1", "--log-every", "5", "--checkpoint-every", "5"]
SECONDS = 600.0


def command(args: Sequence[str]) -> list[str]:
    return [sys.executable, "-m", "experiments.train", *args]


def environment(cache: Path) -> dict[str, str]:
    """Return environment variables with which the processes of a test share compiled programs."""
    kept = {"XDG_CACHE_HOME": str(cache), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    given = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_")}
    return {**given, **kept, "XLA_FLAGS": "--xla_backend_optimization_level=1"}


def start(args: Sequence[str], cache: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(
        command(args), stdout=pipe, stderr=pipe, text=True, env=environment(cache)
    )


def run(args: Sequence[str], cache: Path, **env_more: str) -> subprocess.CompletedProcess[str]:
    env = environment(cache) | env_more
    return subprocess.run(command(args), capture_output=True, text=True, env=env, timeout=SECONDS)


def wait_for_training(out: Path, process: subprocess.Popen[str]) -> None:
    """Wait until the process has restored its checkpoint, has ended, or takes too long."""
    end = time.monotonic() + SECONDS
    before = _file(out / "metrics.jsonl")
    while process.poll() is None and time.monotonic() < end:
        if _file(out / "metrics.jsonl") != before:  # restoring rewrites the file
            break
        time.sleep(0.01)


def _file(path: Path) -> int:
    return path.stat().st_ino if path.exists() else 0


def kill(process: subprocess.Popen[str], number: int = signal.SIGKILL) -> int:
    """Send a signal and return how the process ended."""
    process.send_signal(number)
    process.communicate(timeout=SECONDS)
    return process.returncode


def newest(out: Path) -> tuple[int, list[np.ndarray]]:
    """Return step and arrays of the newest checkpoint, read by Orbax directly."""
    with ocp.CheckpointManager((out / "checkpoints").absolute()) as manager:
        step = manager.latest_step()
        args = ocp.args.Composite(states=ocp.args.StandardRestore())
        return int(step or 0), jax.tree.leaves(manager.restore(step, args=args)["states"])


def lines(out: Path) -> list[dict[str, Any]]:
    """Return the metrics without the times."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def assert_same_end(out: Path, straight: Path) -> None:
    """Assert that checkpoints and metrics equal those of an uninterrupted run bit for bit."""
    (step, arrays), (other_step, others) = newest(out), newest(straight)
    assert step == other_step
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(a, b)
    assert lines(out) == lines(straight)
