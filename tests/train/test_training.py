"""`fit` from a config to a result, and what it refuses before it writes anything."""

import dataclasses
from pathlib import Path
from typing import Any

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnn.data import Split
from cnn.errors import InputError
from cnn.layers import Chain, Conv, Dense, Flatten, GlobalAvgPool
from cnn.train import Result, fit, run_dir
from tests.small import config, model, waves


def test_fit_learns_and_says_how_well() -> None:
    result = fit(config(steps=150, seeds=2))
    assert result.parameters == (3 * 4 + 4) + (4 * 2 + 2)
    for values in (result.train_accuracy, result.test_accuracy):
        assert values.shape == (2,)
        assert (values > 0.9).all()
    untrained = fit(config(steps=0, seeds=2))
    assert (result.train_loss < 0.5 * untrained.train_loss).all()


def test_the_figures_are_those_of_the_returned_states() -> None:
    """Evaluated here by hand, in one piece, from the states."""
    data = waves()
    result = fit(config(steps=30, seeds=2))
    for i, state in enumerate(result.states):
        for split, loss, accuracy in (
            (data.train, result.train_loss, result.train_accuracy),
            (data.test, result.test_loss, result.test_accuracy),
        ):
            logits = np.asarray(model().apply(state.variables, split.x), np.float64)
            log_p = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
            assert loss[i] == pytest.approx(
                -log_p[np.arange(len(split.y)), split.y].mean(), rel=1e-5
            )
            assert accuracy[i] == (logits.argmax(axis=1) == split.y).mean()


def test_validate_never_touches_the_test_set() -> None:
    data = waves()
    hidden = dataclasses.replace(data, test=dataclasses.replace(data.test, x=data.test.x * np.nan))
    assert np.isfinite(fit(config(steps=5, data=hidden, validate=True)).test_loss).all()
    assert np.isnan(fit(config(steps=5, data=hidden)).test_loss).all()


def test_run_folder(tmp_path: Path) -> None:
    out = tmp_path / "run"
    result: Result = fit(config(out, steps=25, log_every=10, checkpoint_every=10, seeds=2))
    lines = run_dir.read_metrics(out)
    assert [line["step"] for line in lines] == [10, 20, 25, 25]
    assert len(lines[0]["train_loss"]) == 2
    assert lines[-1]["test_accuracy"] == pytest.approx(result.test_accuracy.mean())
    assert lines[-1]["train_loss"] == pytest.approx(result.train_loss.mean())
    kept = {p.name for p in (out / run_dir.CHECKPOINTS).iterdir()}
    assert kept == {"20", "25"}


def test_a_resumed_run_writes_each_line_once(tmp_path: Path) -> None:
    out = tmp_path / "run"
    fit(config(out, steps=20, log_every=10, augment=("flip",)))
    fit(config(out, steps=40, log_every=10, augment=("flip",), resume=True))
    lines = run_dir.read_metrics(out)
    assert [line["step"] for line in lines] == [10, 20, 30, 40, 40]
    assert [line.get("final", False) for line in lines] == [False] * 4 + [True]


def test_progress_counts_every_step() -> None:
    seen: list[int] = []
    fit(config(steps=7), on_step=seen.append)
    assert sum(seen) == 7


class ListModel(nn.Module):
    widths: list[int]

    @nn.compact
    def __call__(self, x):
        return nn.Dense(self.widths[0])(x)


BAD: dict[str, tuple[dict[str, Any], str]] = {
    "steps": ({"steps": -1}, r"steps must be 0 or more, got -1"),
    "batch_size": ({"batch_size": 0}, r"batch_size must be 1 or more, got 0"),
    "devices": (
        {"batch_size": 15, "devices": 4},
        r"batch_size must be a multiple of 4 devices, got 15",
    ),
    "too few examples": (
        {"batch_size": 100},
        r"batch_size must be at most the 64 training examples, got 100",
    ),
    "lr": ({"lr": 0.0}, r"lr must be positive and finite, got 0\.0"),
    "lr nan": ({"lr": float("nan")}, r"lr must be positive and finite, got nan"),
    "many steps": ({"steps": 2**31}, r"steps must be below 2\^31, got 2147483648"),
    "last seed": (
        {"seed": 2**31 - 1, "seeds": 2},
        r"seed must be at most .* = 2147483646, got 2147483647",
    ),
    "lr underflow": (
        {"lr": 1e-38},
        r"lr must be a float32 from 1\.18e-38 to 3\.4e\+38, got 1e-38",
    ),
    "lr overflow": ({"lr": 3.5e38}, r"lr must be a float32 .*, got 3\.5e\+38"),
    "rates": ({"learning_rates": (0.1, 1e-39)}, r"lr must be a float32 .*, got 1e-39"),
    "decay": ({"weight_decay": 1e-40}, r"weight_decay must be a float32 .*, got 1e-40"),
    "norm": ({"clip_norm": float("inf")}, r"clip_norm must be a float32 .*, got inf"),
    "warmup": ({"warmup": 30}, r"warmup must be at most steps \(20\), got 30"),
    "smoothing": (
        {"label_smoothing": 1.0},
        r"label_smoothing must be at least 0 and below 1, got 1\.0",
    ),
    "accumulate": (
        {"accumulate": 3},
        r"batch_size must be a multiple of 1 devices × accumulate 3, got 16",
    ),
    "parts": ({"accumulate": 0}, r"accumulate must be 1 or more, got 0"),
    "ema": ({"ema": 1.0}, r"ema must be at least 0 and below 1, got 1\.0"),
    "clip_norm": ({"clip_norm": 0.0}, r"clip_norm must be positive, got 0\.0"),
    "one-cycle": (
        {"schedule": "one-cycle", "warmup": 5},
        r"warmup must be 0 with one-cycle, which has its own, got 5",
    ),
    "both": ({"resume": True, "overwrite": True}, r"exclude each other"),
    "classes": (
        {"model": Chain((Flatten(), Dense(3)))},
        r"must return 2 values, one per class of waves, got shape \(3,\)",
    ),
    "no head": (
        {"model": Conv(2, (3,))},
        r"must return 2 values, one per class of waves, got shape \(10, 2\)",
    ),
    "2-D model": ({"model": Chain((Conv(4, (3, 3)),))}, r"on inputs of shape \(12, 1\) of waves"),
    "window": (
        {"model": Chain((Conv(4, (13,)),))},
        r"window must fit into the padded size 12 on axis 1, got 13",
    ),
    "not a value": ({"model": ListModel([2])}, r"use tuples, not lists"),
}


@pytest.mark.parametrize("name", BAD)
def test_invalid_settings_are_one_line_before_anything_is_written(
    name: str, tmp_path: Path
) -> None:
    fields, message = BAD[name]
    with pytest.raises(InputError, match=message) as error:
        fit(config(tmp_path / "run", **fields))
    assert "\n" not in str(error.value)
    assert list(tmp_path.iterdir()) == []


def test_fewer_steps_than_the_checkpoint(tmp_path: Path) -> None:
    fit(config(tmp_path / "run", steps=4))
    with pytest.raises(
        InputError, match="steps must be at least 4, the step of the newest checkpoint, got 2"
    ):
        fit(config(tmp_path / "run", steps=2, resume=True))


@pytest.mark.parametrize("change", ["labels", "values"])
def test_other_data_of_the_same_name_and_shape_are_not_resumed(change: str, tmp_path: Path) -> None:
    data = waves()
    x, y = np.asarray(data.train.x), data.train.y
    other = {"labels": Split(x, y[::-1].copy()), "values": Split(2 * x, y)}[change]
    fit(config(tmp_path / "run", steps=4))
    with pytest.raises(
        InputError, match=r"of another run: data\.hash: '\w+' is not '\w+'"
    ) as error:
        fit(config(tmp_path / "run", data=dataclasses.replace(data, train=other), resume=True))
    assert "\n" not in str(error.value)


class TrainsByDefault(nn.Module):
    """A module whose call trains by default, as in Flax's ImageNet example."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = True) -> jax.Array:
        x = nn.Conv(4, (3,))(x)
        x = nn.BatchNorm(use_running_average=not train)(x)
        x = nn.Dropout(0.5, deterministic=not train)(nn.relu(x))
        return nn.Dense(2)(x.mean(1))


@pytest.mark.parametrize(
    "model",
    [
        TrainsByDefault(),
        nn.Sequential((nn.Conv(4, (3,)), nn.relu, GlobalAvgPool(), nn.Dense(2))),  # no `train`
    ],
)
def test_modules_of_other_authors(model: nn.Module) -> None:
    """Evaluation uses running statistics and no dropout, whatever the module's default is."""
    data = waves()
    result = fit(config(model=model, steps=10))
    (state,) = result.states
    keyword = {"train": False} if isinstance(model, TrainsByDefault) else {}
    logits = np.asarray(model.apply(state.variables, data.test.x, **keyword))
    assert result.test_accuracy[0] == (logits.argmax(-1) == data.test.y).mean()


class NeedsMore(nn.Module):
    """A module that fails in training alone: it draws from a stream of keys that nobody gives."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool) -> jax.Array:
        x = nn.Dense(2)(x.mean(1))
        return x * jax.random.normal(self.make_rng("noise"), x.shape) if train else x


def test_a_module_that_fails_in_one_of_its_forms_is_refused_before_anything_is_written(
    tmp_path: Path,
) -> None:
    with pytest.raises(InputError, match=r"the model cannot be called on inputs .* waves: .*noise"):
        fit(config(tmp_path / "run", model=NeedsMore(), steps=1))
    assert list(tmp_path.iterdir()) == []
