"""Trainings in processes of their own, to be killed."""

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


def around(cache: Path) -> dict[str, str]:
    """An environment in which programs are compiled once for all processes of a test."""
    kept = {"XDG_CACHE_HOME": str(cache), "JAX_ENABLE_COMPILATION_CACHE": "true"}
    given = {k: v for k, v in os.environ.items() if not k.startswith("JAX_COMPILATION_")}
    return {**given, **kept, "XLA_FLAGS": "--xla_backend_optimization_level=1"}


def start(args: Sequence[str], cache: Path) -> subprocess.Popen[str]:
    pipe = subprocess.PIPE
    return subprocess.Popen(command(args), stdout=pipe, stderr=pipe, text=True, env=around(cache))


def run(args: Sequence[str], cache: Path, **env_more: str) -> subprocess.CompletedProcess[str]:
    env = around(cache) | env_more
    return subprocess.run(command(args), capture_output=True, text=True, env=env, timeout=SECONDS)


def wait_for_training(out: Path, process: subprocess.Popen[str]) -> None:
    """Return when the process has restored what there was, or has ended, or takes too long."""
    end = time.monotonic() + SECONDS
    before = _file(out / "metrics.jsonl")
    while process.poll() is None and time.monotonic() < end:
        if _file(out / "metrics.jsonl") != before:  # which it then writes anew
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
    """The step and arrays of the newest checkpoint, read by Orbax alone."""
    with ocp.CheckpointManager((out / "checkpoints").absolute()) as manager:
        step = manager.latest_step()
        args = ocp.args.Composite(states=ocp.args.StandardRestore())
        return int(step or 0), jax.tree.leaves(manager.restore(step, args=args)["states"])


def lines(out: Path) -> list[dict[str, Any]]:
    """The metrics, without the times."""
    rows = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in row.items() if k != "seconds"} for row in rows]


def assert_same_end(out: Path, straight: Path) -> None:
    """Checkpoints and metrics are those of the run that was left in peace, bit for bit."""
    (step, arrays), (other_step, others) = newest(out), newest(straight)
    assert step == other_step
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_array_equal(a, b)
    assert lines(out) == lines(straight)
