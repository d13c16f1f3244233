"""Checkpoints by steps and minutes, signals, and the lock of a folder."""

import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.train import Stopped, fit, run_dir, stop_on_signals
from cnn.train.preemption import CheckpointSchedule
from tests.small import assert_same, config


def steps_kept(out: Path) -> set[str]:
    return {path.name for path in (out / run_dir.CHECKPOINTS).iterdir()}


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_a_signal_ends_it_after_the_step_with_a_checkpoint(number: int, tmp_path: Path) -> None:
    straight = fit(config(steps=12, seeds=2))
    out = tmp_path / "run"
    seen: list[int] = []

    def ask(advanced: int) -> None:
        seen.append(advanced)
        if len(seen) == 7:
            signal.raise_signal(number)

    handler = signal.default_int_handler
    before = signal.signal(number, handler)  # these tests may run under nohup, which ignores SIGHUP
    try:
        with stop_on_signals() as stop, pytest.raises(Stopped, match="stopped after step 8"):
            fit(config(out, steps=12, seeds=2), ask, stop)
        assert signal.getsignal(number) is handler
    finally:
        signal.signal(number, before)
    assert steps_kept(out) == {"8"}
    resumed = fit(config(out, steps=12, seeds=2, resume=True))
    for a, b in zip(resumed.states, straight.states, strict=True):
        assert_same((a.params, a.opt_state), (b.params, b.opt_state))


def test_a_signal_at_the_last_step_is_a_run_that_ended(tmp_path: Path) -> None:
    assert fit(config(tmp_path / "run", steps=3), stop=lambda step: step == 3).steps == 3


def test_nohup_stays() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        with stop_on_signals() as stop:
            signal.raise_signal(signal.SIGHUP)
            assert not stop(1)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_a_second_signal_ends_the_process_at_once() -> None:
    code = """
import signal
from cnn.train.preemption import stop_on_signals
with stop_on_signals() as stop:
    signal.raise_signal(signal.SIGTERM)
    print(stop(1), flush=True)
    signal.raise_signal(signal.SIGTERM)
"""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("True\n", 128 + signal.SIGTERM)


def test_checkpoints_by_steps_and_by_minutes(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr(time, "monotonic", lambda: clock[0])
    due_after = CheckpointSchedule(
        config(steps=100, checkpoint_every=10, checkpoint_minutes=2), lambda step: False
    )
    due = []
    for step in range(1, 31):
        clock[0] += 25.0
        if due_after(step):
            due.append(step)
    # 120 s are over after the fifth step of 25 s each; every checkpoint starts the minutes anew.
    assert due == [5, 10, 15, 20, 25, 30]


def test_a_folder_is_for_one_process_at_a_time(tmp_path: Path) -> None:
    out = tmp_path / "run"
    with run_dir.locked(out):
        assert run_dir.is_locked(out)
        with pytest.raises(InputError, match=r"is in use by another process: wait until it ends"):
            fit(config(out))
    assert not run_dir.is_locked(out)
    fit(config(out, steps=1))


def test_what_a_killed_process_left_is_cleared_away(tmp_path: Path) -> None:
    out = tmp_path / "run"
    out.mkdir()
    (out / ".lock").touch()
    (out / ".metrics.jsonl.0123.part").write_text("half")
    fit(config(out, steps=1))
    assert {path.name for path in out.iterdir()} == {
        ".lock",
        "checkpoints",
        "metrics.jsonl",
        "run.json",
    }


def test_the_best_checkpoint_stays(tmp_path: Path) -> None:
    """A rate so large that the validation loss soon rises again."""
    out = tmp_path / "run"
    every = {"validate": True, "checkpoint_every": 1, "keep_last": 1, "keep_best": 1}
    fit(config(out, steps=8, lr=3.0, **every))
    lines = [line for line in run_dir.read_metrics(out) if not line.get("final")]
    losses = {line["step"]: line["validation_loss"][0] for line in lines}
    assert len(losses) == 8
    best = min(losses, key=losses.__getitem__)
    assert best != 8
    assert steps_kept(out) == {str(best), "8"}


def test_the_test_set_is_not_for_choosing(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="keep_best needs validate: the test set is not for"):
        fit(config(tmp_path / "run", keep_best=1))
