"""The general entry point: a run, its continuation in a new process, and everything refused."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cnn import models
from cnn.errors import InputError
from experiments import train
from experiments.harness import cli, networks

SMALL = ["--model", "cnn1d", "--data", "mnist1d", "--batch-size", "8", "--devices", "1"]


def invoke(args: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the entry point in this process, as the command line would."""
    monkeypatch.setattr(sys, "argv", ["train", *args])
    cli.run(train.main, train.Flags)


def process(args: list[str]) -> subprocess.CompletedProcess[str]:
    """Run the entry point in a process of its own."""
    command = [sys.executable, "-m", "experiments.train", *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, env=os.environ)


def last_line(out: Path) -> dict:
    return json.loads((out / "metrics.jsonl").read_text().splitlines()[-1])


def parameters(out: Path, step: int) -> list[np.ndarray]:
    """The saved arrays of a checkpoint, read by Orbax alone."""
    import jax
    import orbax.checkpoint as ocp

    with ocp.CheckpointManager((out / "checkpoints").absolute()) as manager:
        args = ocp.args.Composite(states=ocp.args.StandardRestore())
        return jax.tree.leaves(manager.restore(step, args=args)["states"])


@pytest.mark.filterwarnings("ignore:Sharding info not provided:UserWarning")
@pytest.mark.slow
def test_twenty_steps_are_ten_and_a_new_process_and_ten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, optimized: None
) -> None:
    recipe = [*SMALL, "--seed", "3", "--seeds", "2", "--lr", "1e-2"]
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    invoke([*recipe, "--steps", "20", "--out", str(straight)], monkeypatch)
    invoke([*recipe, "--steps", "10", "--out", str(broken)], monkeypatch)
    done = process([*recipe, "--steps", "20", "--out", str(broken), "--resume"])
    assert done.returncode == 0, done.stderr
    for a, b in zip(parameters(straight, 20), parameters(broken, 20), strict=True):
        np.testing.assert_array_equal(a, b)
    one, other = last_line(straight), last_line(broken)
    for name in ("step", "train_loss", "test_accuracy", "per_seed"):
        assert one[name] == other[name]
    assert one["step"] == 20
    assert 0 <= one["test_accuracy"] <= 1
    assert len(one["per_seed"]["test_accuracy"]) == 2


def test_a_run_folder_that_exists_and_one_of_another_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    out = ["--steps", "1", "--out", str(tmp_path / "run")]
    invoke([*SMALL, *out], monkeypatch)
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")}
    for args, message in [
        (SMALL, "contains a run: add --resume or --overwrite"),
        (["--model", "mlp", *SMALL[2:], "--resume"], "of another run: model.layers"),
    ]:
        capsys.readouterr()
        with pytest.raises(SystemExit) as stop:
            invoke([*args, *out], monkeypatch)
        assert stop.value.code == 2
        assert message in capsys.readouterr().err
        assert {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*")} == before
    invoke([*SMALL, *out, "--overwrite"], monkeypatch)


def test_an_unwritable_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as stop:
        invoke([*SMALL, "--out", str(tmp_path / "file" / "run")], monkeypatch)
    assert stop.value.code == 2
    assert "cannot be written" in capsys.readouterr().err


def test_a_network_of_the_users_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With and without an argument for the number of classes."""
    (tmp_path / "own_networks.py").write_text(
        "from flax import linen as nn\n"
        "def mean(x): return x.mean(1)\n"
        "def small(num_classes): return nn.Sequential((mean, nn.Dense(num_classes)))\n"
        "def ten(): return small(10)\n"
        "def nine(): return small(9)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("small", "ten"):
        train.main(train.Flags(model=f"own_networks:{name}", data="mnist1d", steps=2, batch_size=8))
    with pytest.raises(InputError, match="the model must return 10 values"):
        train.main(train.Flags(model="own_networks:nine", data="mnist1d", steps=2, batch_size=8))


def test_settings_from_a_file_and_the_command_line_over_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(
        'model = "cnn1d"\ndata = "mnist1d"\nlr = 3e-3\nsteps = 9\nvalidate = true\n'
        'optimizer = "lion"\nmetrics = ["accuracy", "top-2"]\naugment = ["flip"]\n'
        "[optimizer_args]\nb1 = 0.8\n"
    )
    flags = cli.parse(train.Flags, ["--config", str(file), "--steps=4", "--no-validate"])
    assert (flags.model, flags.lr, flags.steps, flags.validate) == ("cnn1d", 3e-3, 4, False)
    assert flags.optimizer_args == ("b1=0.8",)
    assert (flags.metrics, flags.augment) == (("accuracy", "top-2"), ("flip",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lr = ", "cannot be read: Invalid value"),
        ("learning_rate = 1", "unknown setting in {file} 'learning_rate'"),
        ("data = 'digits'\nlr = 'fast'", "--lr must be a number, got 'fast'"),
    ],
)
def test_a_file_that_does_not_fit(
    text: str, message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "run.toml"
    file.write_text(text)
    with pytest.raises(SystemExit) as stop:
        cli.parse(train.Flags, ["--config", str(file), "--model", "mlp"])
    assert stop.value.code == 2
    error = capsys.readouterr().err
    assert message.format(file=file) in error
    assert error.count("\n") == 1


def test_the_value_of_a_model_from_a_run_is_trained_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An ablated model, too: no function makes it."""
    from cnn import ablations, layers
    from cnn.layers.serialization import to_spec

    head = (layers.Flatten(), layers.Dense(10))
    model = ablations.unshare(layers.Chain((layers.Conv(2, (5,), strides=8), *head)))
    spec = tmp_path / "model.json"
    spec.write_text(json.dumps(to_spec(model)))
    runs = [tmp_path / "first", tmp_path / "second"]
    for given, out in zip((spec, runs[0] / "run.json"), runs, strict=True):
        invoke(["--spec", str(given), *SMALL[2:], "--steps", "2", "--out", str(out)], monkeypatch)
    first, second = (json.loads((out / "run.json").read_text()) for out in runs)
    assert first["model"] == second["model"] == json.loads(spec.read_text())
    for wrong, message in [
        (tmp_path / "none.json", "cannot be read"),
        (runs[0] / "metrics.json", "cannot be read"),
    ]:
        with pytest.raises(InputError, match=message):
            networks.by_name("", (), wrong)
    with pytest.raises(InputError, match="give model or spec, got 'mlp' and"):
        networks.by_name("mlp", (), spec)
    with pytest.raises(InputError, match="model_args are for functions"):
        networks.by_name("", ["width=3"], spec)


def test_arguments_of_the_model() -> None:
    assert networks.by_name("mlp", ["features=[7, 8]"])(10) == models.mlp(10, (7, 8))
    assert networks.by_name("mlp", ["num_classes=3"])(None) == models.mlp(3)
    for arguments, message in [
        (["feature=3"], "unknown argument of model mlp 'feature': did you mean 'features'"),
        (["features"], "model_args must be NAME=VALUE with each name once, got 'features'"),
        (["features=3"], "model 'mlp' cannot be made with"),
        (["num_classes=3"], "model_args must not contain num_classes, which the data say, got 3"),
    ]:
        with pytest.raises(InputError, match=message):
            networks.by_name("mlp", arguments)(10)


def test_what_is_printed_for_a_loss_of_floats(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((60, 8, 1)).astype(np.float32)
    np.savez(tmp_path / "mean.npz", x=x, y=x.mean((1, 2))[:, None])
    given = ["--data", str(tmp_path / "mean.npz"), "--model", "mlp", "--steps", "2"]
    small = ["--batch-size", "8", "--devices", "1", "--loss", "squared-error"]
    invoke([*given, *small], monkeypatch)
    assert "mean.npz: test loss " in capsys.readouterr().out
    invoke([*given, *small, "--metrics", "absolute-error"], monkeypatch)
    assert "mean.npz: test absolute-error " in capsys.readouterr().out
