"""The recipe for CIFAR-10, on images of noise: its own network, any other, and what is refused."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

from cnn import data
from cnn.data import Dataset, Split
from cnn.models.airbench import Mirrored, Whiten, airbench, whitening
from experiments import cifar10, train
from experiments.harness import cli


def noise(*_: object) -> Dataset:
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        x = rng.standard_normal((n, 16, 16, 3), dtype=np.float32)
        return Split(x, np.arange(n, dtype=np.int32) % 3)

    return Dataset("noise", split(24), split(9), ("a", "b", "c"), (0.0,) * 3, (1.0,) * 3)


def narrow(images: Dataset) -> Mirrored:
    return airbench(whitening(images.train.x), images.num_classes, (4, 4))


def invoke(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["cifar10", *args])
    monkeypatch.setattr(data, "load", noise)
    monkeypatch.setattr(cifar10, "network", narrow)  # which compiles sooner
    cli.run(cifar10.main, cifar10.Flags, cifar10.__doc__)


def test_two_steps_leave_a_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--steps", "2", "--batch-size", "8", "--devices", "1", "--precision", "bfloat16"]
    invoke([*small, "--out", str(tmp_path / "run")], monkeypatch)
    assert "airbench on cifar10: test accuracy" in capsys.readouterr().out
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["final"] and np.isfinite(last["test_loss"])
    described = json.loads((tmp_path / "run" / "run.json").read_text())
    assert described["recipe"]["optimizer"] == "sgd"
    assert described["recipe"]["augment"] == ["crop", "flip"]


def test_any_other_network_is_trained_by_the_recipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["--steps", "1", "--batch-size", "8", "--devices", "1"]
    invoke(["--model", "logistic", *small], monkeypatch)
    said = capsys.readouterr().out
    assert "logistic on cifar10" in said
    assert f"({16 * 16 * 3 * 3 + 3:,} parameters" in said


def test_a_stopped_run_goes_on_with_the_program_that_began_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(sys, "argv", ["cifar10", "--out", "my runs", "--overwrite"])
    monkeypatch.setattr(cli, "program", lambda: "python -m experiments.cifar10")
    assert train.again() == "python -m experiments.cifar10 --out 'my runs' --resume"


def test_the_whitening_is_that_of_the_training_images() -> None:
    first = cifar10.network(noise()).body.layers[0]
    assert isinstance(first, Whiten)
    np.testing.assert_array_equal(np.array(first.kernel), whitening(noise().train.x))


def test_a_network_that_is_not_there(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stop:
        invoke(["--model", "airbanch"], monkeypatch)
    assert stop.value.code == 2
    line = "error: unknown model 'airbanch': did you mean 'airbench'?\n"
    assert capsys.readouterr().err == line
