"""A run that is killed, stopped or started twice ends like an uninterrupted one."""

from __future__ import annotations

import os
import pty
import random
import select
import shlex
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest

from cnn.train.run_dir import is_locked
from tests.faults.processes import (
    SECONDS,
    SMALL,
    assert_same_end,
    command,
    environment,
    kill,
    lines,
    newest,
    run,
    start,
    wait_for_training,
)
from tests.reliability import Tally

pytestmark = [
    pytest.mark.fault,
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning"),
]


def test_killed_at_random_moments(tmp_path: Path, tally: Tally) -> None:
    """Every fourth kill comes while the process starts, the others while it trains and saves."""
    kills = int(os.environ.get("KILLS", "100"))
    chance = random.Random(kills)
    straight, out, cache = tmp_path / "straight", tmp_path / "run", tmp_path / "cache"
    args = [*SMALL, "--steps", str(40 * kills), "--resume", "--out"]
    began = time.monotonic()
    assert run([*args, str(straight)], cache).returncode == 0
    startup = min(time.monotonic() - began, 5.0)
    killed = 0
    while killed < kills:
        process = start([*args, str(out)], cache)
        if killed % 4 == 3:
            time.sleep(chance.uniform(0, startup))
        else:
            wait_for_training(out, process)
            time.sleep(chance.uniform(0, 1))
        ended = process.poll()
        kill(process)
        assert ended is None or ended == 0, process.returncode
        if ended == 0:
            break  # nothing was left to interrupt
        killed += 1
    done = run([*args, str(out)], cache)
    assert done.returncode == 0, done.stderr
    assert_same_end(out, straight)
    names = {path.name for path in out.iterdir()}
    assert names == {"run.json", "metrics.jsonl", "checkpoints", ".lock"}
    assert all(path.name.isdecimal() for path in (out / "checkpoints").iterdir())
    tally(
        "kills (`kill -9`) in the middle of one training, its end state equal bit for bit", killed
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_asked_to_stop_it_saves_and_says_how_to_go_on(
    number: int, tmp_path: Path, tally: Tally
) -> None:
    straight, out, cache = tmp_path / "straight", tmp_path / "run", tmp_path / "cache"
    args = [*SMALL, "--steps", "200", "--out"]
    assert run([*args, str(straight)], cache).returncode == 0
    process = start([*args, str(out)], cache)
    wait_for_training(out, process)
    time.sleep(1)
    process.send_signal(number)
    said, complaints = process.communicate(timeout=SECONDS)
    assert process.returncode == 0, complaints
    assert said.startswith("stopped after step ")
    again = shlex.split(said.splitlines()[1])
    assert again[:3] == ["python", "-m", "experiments.train"]
    assert run(again[3:], cache).returncode == 0
    (step, arrays), (_, others) = newest(out), newest(straight)
    assert step == 200
    assert all((a == b).all() for a, b in zip(arrays, others, strict=True))
    tally("SIGTERM, SIGINT and SIGHUP: saved, resumed, its end state equal bit for bit", 1)


def test_a_terminal_that_closes_costs_nothing(tmp_path: Path, tally: Tally) -> None:
    """As SIGTERM: saved, exit code 0. Every write to the terminal is then an error."""
    out = tmp_path / "run"
    terminal, other_end = pty.openpty()
    args = command([*SMALL, "--steps", "100000", "--out", str(out)])
    in_terminal = f"exec {shlex.join(args)} <> {os.ttyname(other_end)} >&0 2>&0"
    process = subprocess.Popen(
        ["sh", "-c", in_terminal], env=environment(tmp_path / "cache"), start_new_session=True
    )
    end = time.monotonic() + SECONDS
    while not (out / "checkpoints" / "5").exists() and time.monotonic() < end:
        if select.select([terminal], [], [], 0.1)[0]:
            os.read(terminal, 10_000)  # the progress bar
    os.close(other_end)
    os.close(terminal)  # the kernel sends SIGHUP
    assert process.wait(timeout=SECONDS) == 0
    step, _ = newest(out)
    assert lines(out)[-1]["step"] <= step < 100000
    tally("terminals that closed: saved, exit code 0", 1)


def test_asked_twice_it_ends_at_once(tmp_path: Path) -> None:
    process = start([*SMALL, "--steps", "100000", "--out", str(tmp_path / "run")], tmp_path)
    wait_for_training(tmp_path / "run", process)
    process.send_signal(signal.SIGTERM)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS)
    # Two that come together may be one.
    assert process.returncode in (0, 128 + signal.SIGTERM)


def test_a_second_run_in_the_folder_is_refused_until_the_first_is_dead(
    tmp_path: Path, tally: Tally
) -> None:
    out, cache = tmp_path / "run", tmp_path / "cache"
    args = [*SMALL, "--steps", "100000", "--out", str(out)]
    process = start(args, cache)
    wait_for_training(out, process)
    assert is_locked(out)
    second = run([*args, "--resume"], cache)
    assert second.returncode == 2
    assert second.stderr.startswith("error: out ")
    assert "is in use by another process" in second.stderr
    assert second.stderr.count("\n") == 1
    kill(process)
    assert not is_locked(out)
    after = max([0, *(int(p.name) for p in (out / "checkpoints").iterdir() if p.name.isdecimal())])
    assert (
        run([*SMALL, "--steps", str(after + 1), "--out", str(out), "--resume"], cache).returncode
        == 0
    )
    tally("second runs in one folder: refused, and let in when the first was dead", 1)


def test_from_four_devices_to_two_one_and_eight(tmp_path: Path, tally: Tally) -> None:
    """Sums over devices round in another order, so the weights agree to 1e-4 after 50 steps."""
    cache = tmp_path / "cache"
    flags = "--xla_backend_optimization_level=1 --xla_force_host_platform_device_count=8"
    small = [arg for arg in SMALL if arg not in ("--devices", "1")]
    for out, plan in (
        ("straight", [(1, 50)]),
        ("run", [(4, 10), (2, 20), (1, 30), (8, 40), (1, 50)]),
    ):
        for devices, steps in plan:
            args = [*small, "--devices", str(devices), "--steps", str(steps), "--resume"]
            done = run([*args, "--out", str(tmp_path / out)], cache, XLA_FLAGS=flags)
            assert done.returncode == 0, done.stderr
    (step, arrays), (_, others) = newest(tmp_path / "run"), newest(tmp_path / "straight")
    assert step == 50
    for a, b in zip(arrays, others, strict=True):
        np.testing.assert_allclose(a, b, atol=1e-4, rtol=0)
    tally("restored on another number of devices: 4, 2, 1, 8", 4)
