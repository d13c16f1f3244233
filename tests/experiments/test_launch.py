"""Processes that train as one: they learn what one process learns, and end when one is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import jax
import numpy as np
import pytest

from cnn.errors import InputError
from cnn.train import load_run
from experiments import train
from experiments.harness import cli
from experiments.launch import distributed, local
from experiments.launch.distributed import Processes
from tests.experiments.test_train import parameters
from tests.reliability import Tally
from tests.small import assert_close

RECIPE = ["--model", "cnn1d", "--data", "mnist1d", "--batch-size", "16"]
PYTHON = [sys.executable, "-c"]


def run_processes(args: list[str], number: int) -> int:
    return local.launch([sys.executable, "-m", "experiments.train", *RECIPE, *args], number)


def run_alone(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["train", *RECIPE, *args])
    cli.run(train.main, train.Flags)


def records(out: Path) -> list[dict]:
    lines = [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]
    return [{k: v for k, v in line.items() if k != "seconds"} for line in lines]


@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("number", [2, 4])
def test_processes_learn_what_the_devices_of_one_process_learn(
    number: int,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tally: Tally,
    optimized: None,
) -> None:
    """What they saved, one process goes on with.

    Two are equal bit for bit. Sums of four depend on the order, and gloo's is another.
    """
    here, there = tmp_path / "here", tmp_path / "there"
    short = ["--steps", "6", "--log-every", "3", "--out"]
    assert run_processes([*short, str(there)], number) == 0
    said = capsys.readouterr().out
    assert said.count("test accuracy") == 1
    assert "[0] cnn1d on mnist1d" in said
    run_alone([*short, str(here), "--devices", str(number)], monkeypatch)
    tolerance = 0 if number == 2 else 1e-5
    for one, other in zip(records(here), records(there), strict=True):
        np.testing.assert_allclose(one["train_loss"], other["train_loss"], rtol=tolerance)
    for out in (here, there):
        run_alone(["--steps", "9", "--resume", "--devices", "1", "--out", str(out)], monkeypatch)
    assert records(there)[-1]["step"] == 9
    for a, b in zip(parameters(here, 9), parameters(there, 9), strict=True):
        np.testing.assert_allclose(a, b, rtol=0, atol=tolerance)
    tally("trainings of 2 and of 4 processes: equal to one process, which goes on with them", 1)


@pytest.mark.slow
def test_groups_of_seeds_in_four_processes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimized: None
) -> None:
    """Each process trains a seed of its own; together they save and say what one process does."""
    here, there = tmp_path / "here", tmp_path / "there"
    args = ["--seeds", "4", "--steps", "6", "--out"]
    assert run_processes(["--seed-groups", "4", *args, str(there)], 4) == 0
    run_alone([*args, str(here), "--devices", "1"], monkeypatch)
    one, other = records(here)[-1], records(there)[-1]
    np.testing.assert_allclose(
        other["per_seed"]["train_loss"], one["per_seed"]["train_loss"], rtol=1e-5
    )
    assert other["seeds"] == [0, 1, 2, 3]


@pytest.mark.slow
def test_processes_hold_parts_of_the_parameters(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimized: None
) -> None:
    """They learn, save and say what one process does that holds the whole."""
    here, there = tmp_path / "here", tmp_path / "there"
    args = ["--model-args", "channels=64", "--steps", "6", "--out"]
    assert run_processes(["--shard-params", *args, str(there)], 2) == 0
    run_alone([*args, str(here), "--devices", "1"], monkeypatch)
    losses = [records(out)[-1]["train_loss"] for out in (here, there)]
    np.testing.assert_allclose(*losses, rtol=1e-5)
    assert_close(*(load_run(out).variables for out in (here, there)), 1e-5)


@contextmanager
def two_processes(out: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """Yield two that train together without end, after their first checkpoints."""
    command = [sys.executable, "-m", "experiments.train", *RECIPE, "--steps", "1000000"]
    command += ["--out", str(out), "--checkpoint-every", "20", "--heartbeat-timeout", "10"]
    command += ["--coordinator"]
    command += [f"localhost:{local._free_port()}", "--processes", "2", "--process-id"]
    env = os.environ | {"XLA_FLAGS": "", "NPROC": "4"}
    pipe = subprocess.PIPE
    both = [
        subprocess.Popen([*command, str(i)], env=env, stdout=pipe, stderr=pipe, text=True)
        for i in range(2)
    ]
    try:
        until = time.monotonic() + 240
        while not (out / "checkpoints" / "40").exists():
            ended = [process for process in both if process.poll() is not None]
            assert not ended, ended[0].communicate(timeout=30)
            assert time.monotonic() < until, "no checkpoint in 240 seconds"
            time.sleep(0.1)
        yield both
    finally:
        for process in both:
            process.kill()
            process.communicate(timeout=30)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--lr=1e-2", "--lr=1e-4"], "lr must be the same in all processes, got {} in process"),
        (["--steps=2", "--model=mlp"], "steps, model must be the same in all processes, got "),
    ],
)
def test_processes_with_different_flags_end_before_anything_is_written(
    flags: list[str], said: str, tmp_path: Path, tally: Tally
) -> None:
    """The flags of a process stand after those that all have, and replace them."""
    command = [sys.executable, "-m", "experiments.train", *RECIPE, "--out", str(tmp_path / "run")]
    command += ["--coordinator", f"localhost:{local._free_port()}", "--processes", "2"]
    env = os.environ | {"XLA_FLAGS": "", "NPROC": "4"}
    both = [
        subprocess.Popen(
            [*command, "--process-id", str(i), flag], env=env, stderr=subprocess.PIPE, text=True
        )
        for i, flag in enumerate(flags)
    ]
    try:
        for i, process in enumerate(both):
            _, complaint = process.communicate(timeout=120)
            assert process.returncode == 2
            lines = [line for line in complaint.splitlines() if line.startswith("error: ")]
            assert len(lines) == 1
            assert said.format((0.01, 0.0001)[i]) in lines[0]
    finally:
        for process in both:
            process.kill()
            process.wait(timeout=30)
    assert list(tmp_path.iterdir()) == []
    tally("two processes with different settings: both refused with one line", 1)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize(
    ("victim", "how"), [(1, signal.SIGKILL), (0, signal.SIGKILL), (1, signal.SIGSTOP)]
)
def test_when_one_is_lost_the_other_ends_within_30_seconds_and_says_so(
    victim: int, how: signal.Signals, tmp_path: Path, tally: Tally
) -> None:
    with two_processes(tmp_path / "run") as both:
        both[victim].send_signal(how)
        _, said = both[1 - victim].communicate(timeout=30)
        assert both[1 - victim].returncode != 0
        assert said.count(distributed.LOST) == 1
        assert said.endswith(distributed.LOST + "\n")
    tally("processes lost: the other ended within 30 seconds and said so", 1)


@pytest.mark.slow
@pytest.mark.fault
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_to_one_saves_and_ends_both(number: int, tmp_path: Path, tally: Tally) -> None:
    out = tmp_path / "run"
    with two_processes(out) as both:
        both[1].send_signal(number)
        said = [process.communicate(timeout=60) for process in both]
        assert [process.returncode for process in both] == [0, 0]
    assert "--resume" in said[0][0] + said[0][1]
    assert "--resume" not in said[1][0] + said[1][1]
    newest = max(int(folder.name) for folder in (out / "checkpoints").iterdir())
    assert f"after step {newest} of" in said[0][0] + said[0][1]
    tally("SIGTERM, SIGINT or SIGHUP to one of two processes: both saved and ended", 1)


@pytest.mark.slow
@pytest.mark.fault
def test_ctrl_c_saves_what_local_launched(tmp_path: Path, tally: Tally) -> None:
    """A terminal sends SIGINT to the launcher and to all processes that it started."""
    out, pipe = tmp_path / "run", subprocess.PIPE
    command = [sys.executable, "-m", "experiments.launch.local", "--", sys.executable, "-m"]
    command += ["experiments.train", *RECIPE, "--steps", "1000000", "--out", str(out)]
    with subprocess.Popen(
        command, stdout=pipe, stderr=pipe, text=True, start_new_session=True
    ) as launcher:
        try:
            until = time.monotonic() + 120
            while not (out / "metrics.jsonl").exists() and time.monotonic() < until:
                time.sleep(0.1)
            os.killpg(launcher.pid, signal.SIGINT)
            said, complaints = launcher.communicate(timeout=60)
        finally:
            launcher.kill()
    assert launcher.returncode == 128 + signal.SIGINT
    assert "Traceback" not in complaints
    newest = max(int(folder.name) for folder in (out / "checkpoints").iterdir())
    assert f"[0] stopped after step {newest} of" in said
    tally("Ctrl-C to two processes of one launcher: both saved and ended", 1)


def test_the_first_bad_end_ends_all_and_is_returned(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = "import sys, time; print('here'); sys.exit(7) if '1' == sys.argv[-1] else time.sleep(60)"
    began = time.monotonic()
    assert local.launch([*PYTHON, code], 3, grace=0.1) == 7
    assert time.monotonic() - began < 20
    assert sorted(capsys.readouterr().out.splitlines()) == ["[0] here", "[1] here", "[2] here"]


def test_a_signal_is_a_bad_end_and_all_good_is_0() -> None:
    kill = "import os, sys; sys.argv[-1] == '0' and os.kill(os.getpid(), 9)"
    assert local.launch([*PYTHON, kill], 2) == 128 + 9
    tell = "import sys; sys.exit(sys.argv[-6:-2:2] != ['--coordinator', '--processes'])"
    assert local.launch([*PYTHON, tell], 2) == 0


def test_a_process_that_ends_abruptly_says_why_and_one_that_ends_well_does_not() -> None:
    code = "import os\nfrom experiments.launch import distributed\nwith distributed._last_words(): "
    for end, said in (("os.abort()", distributed.LOST + "\n"), ("pass", "")):
        done = subprocess.run([*PYTHON, code + end], capture_output=True, text=True, timeout=60)
        assert done.stderr.endswith(said)
        assert done.stderr.count(distributed.LOST) == said.count("\n")


BAD: dict[str, tuple[dict, str]] = {
    "alone": ({"coordinator": "a:1"}, "coordinator, processes and process_id go together"),
    "no process": ({"processes": 2, "process_id": 0}, "go together: give all"),
    "no port": (
        {"coordinator": "host", "processes": 2, "process_id": 0},
        "coordinator must be HOST:PORT, got 'host'",
    ),
    "too high": (
        {"coordinator": "a:1", "processes": 2, "process_id": 2},
        "process_id must be 0 to processes - 1 = 1, got 2",
    ),
    "port too high": (
        {"coordinator": "a:70000", "processes": 2, "process_id": 0},
        "coordinator must be HOST:PORT, got 'a:70000'",
    ),
    "coordinator_port too high": (
        {"distributed": True, "coordinator_port": 70000},
        "coordinator_port must be 1 to 65535, got 70000",
    ),
    "coordinator_port alone": ({"coordinator_port": 1}, "coordinator_port is for distributed"),
    "no time to join": ({"join_timeout": 0}, "join_timeout must be at least 1 second, got 0"),
    "time for nobody": ({"join_timeout": 5}, "join_timeout is for several processes: add"),
    "no heartbeat": ({"heartbeat_timeout": 0}, "heartbeat_timeout must be at least 1 second, got"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_processes(name: str) -> None:
    fields, message = BAD[name]
    with pytest.raises(InputError, match=message):
        train.Flags(model="mlp", data="digits", **fields).check()
    assert isinstance(train.Flags(model="mlp", data="digits"), Processes)


def test_times_and_port_reach_jax(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pods get half an hour to join and 100 s of silence. JAX reads the port from a variable."""
    called: dict = {}
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **given: called.update(given))
    monkeypatch.setenv("JAX_COORDINATOR_PORT", "1")
    with distributed.join(Processes(distributed=True, coordinator_port=8482)):
        assert os.environ["JAX_COORDINATOR_PORT"] == "8482"
    assert called["initialization_timeout"] == 30 * 60
    assert called["heartbeat_timeout_seconds"] == 100
    with distributed.join(Processes(distributed=True, join_timeout=7, heartbeat_timeout=3)):
        assert os.environ["JAX_COORDINATOR_PORT"] == "8482"
    assert called == {
        "initialization_timeout": 7,
        "heartbeat_timeout_seconds": 3,
        "shutdown_timeout_seconds": 3,
    }


@pytest.mark.slow
def test_nobody_to_join(tmp_path: Path) -> None:
    """Outside a cluster, and where process 0 does not answer."""
    code = (
        "from experiments import train\n"
        "from experiments.harness import cli\n"
        "cli.run(train.main, train.Flags)"
    )
    nobody = f"localhost:{local._free_port()}"
    explicit = ["--coordinator", nobody, "--processes", "2", "--process-id", "1"]
    for args, said in (
        (["--distributed"], "error: cannot join the other processes (no TPU pod, GKE or"),
        (explicit, distributed.LOST),
    ):
        done = subprocess.run(
            [*PYTHON, code, *RECIPE, *args, "--join-timeout=1", "--out", str(tmp_path / "run")],
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode != 0
        assert done.stderr.splitlines()[-1].startswith(said)
    assert list(tmp_path.iterdir()) == []
