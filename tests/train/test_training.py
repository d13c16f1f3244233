"""`fit` from a config to a result, and what it refuses before it writes anything."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax
import pytest
from flax import linen as nn

from cnn.data import Dataset, Split
from cnn.errors import InputError
from cnn.layers import Chain, Conv, Dense, Flatten, GlobalAvgPool
from cnn.train import Result, Stopped, fit, run_dir
from tests.small import assert_same, config, model, waves


def test_fit_learns_and_says_how_well() -> None:
    result = fit(config(steps=150, seeds=2))
    assert result.parameters == (3 * 4 + 4) + (4 * 2 + 2)
    for values in (result.train_accuracy, result.test_accuracy):
        assert values.shape == (2,)
        assert (values > 0.9).all()
    untrained = fit(config(steps=0, seeds=2))
    assert (result.train_loss < 0.5 * untrained.train_loss).all()


def test_runs_that_differ_in_seed_data_and_rate_trace_the_model_once() -> None:
    calls = []

    class Counted(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            calls.append(x.shape)
            return nn.Dense(2)(x.reshape(len(x), -1))

    fit(config(model=Counted(), steps=2))
    traced = len(calls)
    assert traced > 0
    fit(config(model=Counted(), steps=2, seed=1, lr=0.02, data=waves()))
    assert len(calls) == traced


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
    hidden = dataclasses.replace(
        data, test=dataclasses.replace(data.test, x=np.full_like(data.test.x, 3e38))
    )
    assert np.isfinite(fit(config(steps=5, data=hidden, validate=True)).test_loss).all()
    assert not np.isfinite(fit(config(steps=5, data=hidden)).test_loss).any()


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
        r"warmup must be 0 with this schedule, which has its own, got 5",
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


def curve(count: int = 64, seed: int = 0) -> Dataset:
    """Return signals with two float targets: their mean and their largest value."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        x = rng.standard_normal((n, 12, 1)).astype(np.float32)
        return Split(x, np.stack([x.mean((1, 2)), x.max((1, 2))], axis=1))

    return Dataset("curve", split(count), split(24), (), mean=(0.0,), std=(1.0,))


def signed_error(outputs: Any, targets: Any) -> Any:
    return outputs - targets


def test_float_targets_with_a_metric_of_one_s_own(tmp_path: Path) -> None:
    """All values are what NumPy finds from the outputs; a metric may be an array."""
    data, out = curve(), tmp_path / "run"
    fields = {"loss": "squared-error", "metrics": ("absolute-error", signed_error), "seeds": 2}
    result = fit(config(out, data=data, **fields))
    assert result.test["signed_error"].shape == (2, 2)
    for i, state in enumerate(result.states):
        error = np.asarray(model().apply(state.variables, data.test.x)) - data.test.y
        np.testing.assert_allclose(result.test["loss"][i], (error**2).mean(), rtol=1e-5)
        np.testing.assert_allclose(result.test["absolute-error"][i], np.abs(error).mean(), 1e-5)
        np.testing.assert_allclose(result.test["signed_error"][i], error.mean(0), atol=1e-6)
    lines = run_dir.read_metrics(out)
    assert np.shape(lines[0]["train_signed_error"]) == (2, 2)
    assert lines[-1]["test_signed_error"] == pytest.approx(result.test["signed_error"].mean(0))
    assert [dict(line) for line in result.history] == lines[:-1]
    longer = {"steps": 300, "schedule": "cosine", "lr": 0.03}
    assert fit(config(data=data, **{**fields, **longer})).test_loss.max() < 0.5 * data.test.y.var()


def test_several_labels_at_once() -> None:
    """Whether the mean is above 0, and whether the largest value is above 1.6."""
    parts = {}
    for part in ("train", "test"):
        split = getattr(curve(400), part)
        parts[part] = Split(split.x, (split.y > [0, 1.6]).astype(np.float32))
    data = dataclasses.replace(curve(400), **parts, classes=("positive", "high"))
    settings = {"loss": "binary-cross-entropy", "metrics": ("binary-accuracy",), "steps": 200}
    result = fit(config(data=data, **settings, model=Chain((Flatten(), Dense(2)))))
    assert result.train["binary-accuracy"][0] > 0.8
    with pytest.raises(KeyError):
        result.train_accuracy  # noqa: B018


def test_epochs() -> None:
    """64 examples in batches of 24 are 2 steps an epoch; a held-out part leaves 58, the same."""
    assert config(epochs=3, batch_size=24, steps=3000).steps == 6
    assert fit(config(epochs=3, batch_size=24, steps=3000, validate=True)).steps == 6
    again = dataclasses.replace(config(epochs=3, batch_size=24, steps=3000), lr=0.5)
    assert again.steps == 6
    with pytest.raises(InputError, match="give steps or epochs, got 20 and 3"):
        config(epochs=3, steps=20)


def test_a_validation_curve(tmp_path: Path) -> None:
    """Evaluations at steps 6, 12 and 18 are those of runs of that many steps."""
    fields = {"validate": True, "evaluate_every": 6, "log_every": 10, "seeds": 2}
    result = fit(config(tmp_path / "run", **fields))
    lines = run_dir.read_metrics(tmp_path / "run")
    assert [line["step"] for line in lines] == [6, 10, 12, 18, 20, 20]
    seen = {
        line["step"]: line for line in lines if "validation_loss" in line and "final" not in line
    }
    assert [*seen] == [6, 12, 18]
    for steps, line in seen.items():
        alone = fit(config(steps=steps, validate=True, seeds=2))
        np.testing.assert_allclose(line["validation_loss"], alone.test_loss, rtol=1e-5)
        np.testing.assert_allclose(line["validation_accuracy"], alone.test_accuracy)
    assert [dict(line) for line in result.history] == lines[:-1]


def test_early_stopping_ends_a_run_and_its_resumption(tmp_path: Path) -> None:
    """With a learning rate of almost 0 the loss is equal at all evaluations, but for rounding."""
    fields = {"validate": True, "evaluate_every": 5, "patience": 2, "lr": 1e-30, "steps": 40}
    out = tmp_path / "run"
    result = fit(config(out, **fields))
    assert result.steps == 15
    assert [int(state.step) for state in result.states] == [15]
    last = run_dir.read_metrics(out)[-1]
    assert (last["step"], last["final"]) == (15, True)
    assert {int(path.name) for path in (out / run_dir.CHECKPOINTS).iterdir()} == {15}
    again = fit(config(out, **fields, resume=True))
    assert again.steps == 15
    assert_same(again.states[0].params, result.states[0].params)
    # After a stop in between, the evaluations before it count.
    half = tmp_path / "half"
    with pytest.raises(Stopped):
        fit(config(half, **fields), stop=lambda step: step == 7)
    assert fit(config(half, **fields, resume=True)).steps == 15
    assert fit(config(half, **{**fields, "patience": 3}, resume=True)).steps == 20


def test_an_optimizer_from_python_is_part_of_the_run(tmp_path: Path) -> None:
    """Its name is recorded; a run resumed with other code of an equal name is refused."""
    out = tmp_path / "run"

    def signs(scale: float) -> Any:
        return lambda rate: optax.chain(optax.scale_by_sign(), optax.scale(-scale * rate))

    fit(config(out, optimizer=signs(1.0), steps=4))
    fit(config(out, optimizer=signs(1.0), steps=6, resume=True))
    with pytest.raises(InputError, match="of a network with other code"):
        fit(config(out, optimizer=signs(2.0), steps=8, resume=True))
    recipe = json.loads((out / run_dir.RUN).read_text())["recipe"]
    assert recipe["optimizer"].endswith("signs.<locals>.<lambda>")


def test_functions_that_do_not_fit_are_one_line_before_anything_is_written(tmp_path: Path) -> None:
    cases: list[tuple[dict[str, Any], str]] = [
        ({"loss": "squared-error"}, "on waves, loss squared-error needs float targets"),
        ({"data": curve()}, "on curve, loss cross-entropy needs outputs .* and class indices"),
        (
            {"data": curve(), "loss": "binary-cross-entropy"},
            r"needs targets from 0 to 1, got -\d.* to \d.* in curve: use another loss, or other",
        ),
        ({"data": curve(), "loss": "huber", "metrics": ("accuracy",)}, "on curve, metric accuracy"),
        (
            {"loss": lambda o, t: o.no_such},
            r"loss or metrics \(.*lambda.*\) cannot be comp",
        ),
        ({"loss": lambda o, t: o}, r"on waves, loss must return one value for each of 1 examples"),
        ({"metrics": ("top-3",)}, "metric top-3 must be from top-1 to top-2"),
        ({"optimizer": "adamv"}, "unknown optimizer 'adamv': did you mean"),
        ({"evaluate_every": 5}, "evaluate_every needs validate: the test set is not for choosing"),
        ({"patience": 5}, "patience counts evaluations: give evaluate_every"),
        ({"epochs": 0, "steps": 3000}, "epochs must be 1 or more, got 0"),
        (
            {"augment": ("mixup", "flip")},
            "augment must be with at most one of mixup and",
        ),
        ({"augment": ("cutmix",), "batch_size": 15}, "batch_size must be even on each device for"),
        ({"label_smoothing": 0.1, "loss": "huber"}, "label_smoothing must be 0 with losses other"),
    ]
    for fields, message in cases:
        with pytest.raises(InputError, match=message) as error:
            fit(config(tmp_path / "run", **fields))
        assert "\n" not in str(error.value)
        assert not (tmp_path / "run").exists()
