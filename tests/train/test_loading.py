"""A run, back in Python from its folder alone."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnn import models
from cnn.ablations import unshare
from cnn.errors import InputError
from cnn.train import fit, load_run, run_dir
from tests.small import assert_same, config, model, waves


def files(folder: Path) -> dict[str, int]:
    return {str(path): path.stat().st_mtime_ns for path in folder.rglob("*")}


def test_model_weights_metrics_and_what_they_compute(tmp_path: Path) -> None:
    """Equal to the result of the run that wrote the folder; and the folder may move."""
    fields = {"seeds": 2, "seed": 3, "log_every": 10, "precision": "float32"}
    result = fit(config(tmp_path / "old", model=model(norm=True), **fields))
    shutil.move(tmp_path / "old", tmp_path / "new")
    before = files(tmp_path / "new")
    run = load_run(tmp_path / "new")
    assert files(tmp_path / "new") == before
    assert (run.step, run.model, len(run.variables)) == (20, model(norm=True), 2)
    assert_same(run.variables, tuple(state.variables for state in result.states))
    assert run.config["lr"] == 1e-2
    assert [line["step"] for line in run.metrics] == [10, 20, 20]
    data = waves()
    expected = model(norm=True).apply(result.states[1].variables, data.test.x, train=False)
    np.testing.assert_allclose(run.predict(data.test.x, seed=1), expected, rtol=1e-5, atol=1e-5)
    measured = run.evaluate(data, metrics=("accuracy", "confusion"))
    np.testing.assert_allclose(measured["loss"], result.test_loss, rtol=1e-5)
    np.testing.assert_allclose(measured["accuracy"], result.test_accuracy, rtol=1e-6)
    assert measured["confusion"].shape == (2, 2, 2)
    on_train = run.evaluate(data.train)
    np.testing.assert_allclose(on_train["loss"], result.train_loss, rtol=1e-5)
    assert run.describe().params == result.parameters
    assert repr(run) == f"Run({str(tmp_path / 'new')!r}, step 20, 2 seeds, Chain on waves)"


def test_a_checkpoint_by_step_and_the_best_one(tmp_path: Path) -> None:
    fields = {"checkpoint_every": 5, "keep_last": 4, "validate": True, "evaluate_every": 5}
    fit(config(tmp_path, **fields, lr=0.3))
    lines = [line for line in load_run(tmp_path).metrics[:-1] if "validation_loss" in line]
    losses = {line["step"]: line["validation_loss"][0] for line in lines}
    assert len(losses) == 4
    best = min(losses, key=lambda step: losses[step])
    run = load_run(tmp_path, best=True)
    assert run.step == best
    held_out = waves().held_out()
    np.testing.assert_allclose(run.evaluate(held_out)["loss"], [losses[best]], rtol=1e-5)
    assert load_run(tmp_path, step=10).step == 10
    assert_same(
        load_run(tmp_path, step=10).variables[0],
        fit(config(steps=10, validate=True, lr=0.3)).states[0].variables,
    )


def test_after_relaxing_it_is_the_model_with_less_bias(tmp_path: Path) -> None:
    fit(config(tmp_path, relax_at=10, relax_to=unshare(model()), checkpoint_every=10))
    assert load_run(tmp_path).model == unshare(model())
    assert load_run(tmp_path, step=10).model == model()


def test_the_moving_average_is_what_is_evaluated(tmp_path: Path) -> None:
    result = fit(config(tmp_path, ema=0.9))
    run = load_run(tmp_path)
    assert_same(run.variables[0], result.states[0].average)
    np.testing.assert_allclose(run.evaluate(waves())["loss"], result.test_loss, rtol=1e-5)


class Net(nn.Module):
    """A network from elsewhere."""

    width: int = 2

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        return nn.Dense(self.width)(x.reshape(len(x), -1))


def test_a_network_from_elsewhere_says_what_to_import(tmp_path: Path) -> None:
    fit(config(tmp_path, model=Net()))
    with pytest.raises(InputError, match=r"test_loading:Net, cannot be made .*import it"):
        load_run(tmp_path)
    assert load_run(tmp_path, model=Net()).predict(waves().test.x).shape == (24, 2)
    with pytest.raises(InputError, match="model must be that of the run: width: None is not 3"):
        load_run(tmp_path, model=Net(3))


def test_export(tmp_path: Path) -> None:
    fit(config(tmp_path / "run", seeds=2))
    run = load_run(tmp_path / "run")
    run.export(tmp_path / "a.safetensors", seed=1)
    again, variables = models.load(tmp_path / "a.safetensors")
    assert again == run.model
    assert_same(variables, run.variables[1])
    with pytest.raises(InputError, match="seed must be from 0 to 1, got 2"):
        run.export(tmp_path / "a.safetensors", seed=2)


def test_what_cannot_be_loaded_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(config(out, loss=lambda o, t: (o**2).sum(-1)))
    run = load_run(out)
    with pytest.raises(InputError, match=r"the loss of this run, .*<lambda>, cannot be imported"):
        run.evaluate(waves())
    with pytest.raises(InputError, match=r"x must have shape \(batch, 12, 1\), got \(4, 11, 1\)"):
        run.predict(np.zeros((4, 11, 1)))
    cases: list[tuple[Path, dict[str, Any], str]] = [
        (tmp_path, {}, "is no run with checkpoints"),
        (out, {"step": 7}, "step must be one of 20, got 7"),
        (out, {"best": True}, "best needs validation losses at the steps of checkpoints"),
        (out, {"best": True, "step": 20}, "step and best exclude each other"),
    ]
    for folder, arguments, message in cases:
        with pytest.raises(InputError, match=message) as error:
            load_run(folder, **arguments)
        assert "\n" not in str(error.value)
    data = next((out / run_dir.CHECKPOINTS / "20" / "states" / "d").iterdir())
    data.write_bytes(data.read_bytes()[:-1] + b"!")
    with pytest.raises(InputError, match=r"the checkpoint of step 20 in .* is damaged: choose"):
        load_run(out)
    (out / run_dir.RUN).write_text(json.dumps({"model": 3}))
    with pytest.raises(InputError, match="is no run with checkpoints"):
        load_run(out)
