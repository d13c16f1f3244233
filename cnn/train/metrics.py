"""Metrics: functions `f(outputs, targets) -> (batch, *shape)`, one value for each example.

What is reported is the mean over the examples. The loss is always reported, too.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from jaxtyping import Array, Bool, Float, Int

from cnn.errors import InputError, unknown_name
from cnn.layers.serialization import import_function
from cnn.train.losses import LOSSES, Loss, Outputs, per_example
from cnn.train.recipe import Recipe

Metric = Callable[[Outputs, Any], Float[Array, "batch ..."]]
Logits = Float[Array, "batch classes"]
Labels = Int[Array, " batch"]


def accuracy(logits: Logits, y: Labels) -> Bool[Array, " batch"]:
    """Return whether the largest logit is that of the class; of equal ones the first counts."""
    _check("accuracy", logits, y)
    return logits.argmax(axis=-1) == y


def top_k(logits: Logits, y: Labels, k: int) -> Bool[Array, " batch"]:
    """Return whether fewer than `k` other logits are as large as that of the class, or larger."""
    _check(f"top-{k}", logits, y)
    if not 1 <= k <= logits.shape[-1]:
        raise InputError(f"metric top-{k} must be from top-1 to top-{logits.shape[-1]}")
    own = jnp.take_along_axis(logits, y[:, None], axis=-1)
    return (logits >= own).sum(axis=-1) <= k


def confusion(logits: Logits, y: Labels) -> Float[Array, "batch classes classes"]:
    """Return 1 at (class, predicted class). The mean is the share of all examples."""
    _check("confusion", logits, y)
    classes = logits.shape[-1]
    true, predicted = (jax.nn.one_hot(i, classes) for i in (y, logits.argmax(axis=-1)))
    return true[:, :, None] * predicted[:, None]


def binary_accuracy(outputs: Outputs, targets: Outputs) -> Float[Array, " batch"]:
    """Return the share of outputs whose sign is right, for targets 0 and 1."""
    LOSSES["binary-cross-entropy"](outputs, targets)  # checks the shapes
    return per_example(((outputs > 0) == (targets > 0.5)) * 1.0)


def _check(name: str, logits: Array, y: Array) -> None:
    if not jnp.issubdtype(y.dtype, jnp.integer) or logits.ndim != 2 or y.ndim != 1:
        raise InputError(
            f"metric {name} needs outputs (batch, classes) and class indices (batch,), got outputs "
            f"{logits.shape} and {y.dtype} targets {y.shape}: give other metrics"
        )


METRICS: dict[str, Metric] = {
    "accuracy": accuracy,
    "confusion": confusion,
    "binary-accuracy": binary_accuracy,
    **{name: LOSSES[name] for name in ("squared-error", "absolute-error")},
}


def make_metrics(recipe: Recipe) -> dict[str, Metric]:
    """Return the metrics of a recipe by name.

    By default that is the accuracy with cross-entropy, and nothing with other losses.

    Raises:
        InputError: If a name is unknown, or two metrics have one name.
    """
    named = {metric_name(metric): _make(metric) for metric in metrics_of(recipe)}
    if len(named) < len(metrics_of(recipe)) or "loss" in named:
        given = [metric_name(metric) for metric in metrics_of(recipe)]
        raise InputError(f"metrics must have different names, and none may be loss, got {given}")
    return named


def metrics_of(recipe: Recipe) -> tuple[str | Metric, ...]:
    """Return the metrics of a recipe, or the default ones."""
    default = ("accuracy",) if recipe.loss == "cross-entropy" else ()
    return recipe.metrics or default


def _make(metric: str | Metric) -> Metric:
    if not isinstance(metric, str):
        return metric
    if match := re.fullmatch(r"top-(\d{1,6})", metric):
        return partial(top_k, k=int(match[1]))
    if ":" in metric:
        return import_function("metric", metric)
    if metric not in METRICS:
        raise unknown_name("metric", metric, [*METRICS, "top-5"])
    return METRICS[metric]


def metric_name(metric: str | Metric) -> str:
    """Return the name under which a metric is recorded: "top-5", or the name of the function."""
    if isinstance(metric, str):
        return metric.partition(":")[2] or metric
    return str(getattr(getattr(metric, "func", metric), "__name__", type(metric).__name__))


def measure(
    loss: Loss, metrics: dict[str, Metric], outputs: Outputs, targets: Array
) -> dict[str, Float[Array, "batch ..."]]:
    """Return the loss and the metrics of each example.

    Raises:
        InputError: If a function does not return one value, or one array, for each example.
    """
    measured = {"loss": loss(outputs, targets)}
    measured |= {name: jnp.asarray(f(outputs, targets)) for name, f in metrics.items()}
    for name, values in measured.items():
        wrong_loss = name == "loss" and values.ndim != 1
        if jnp.shape(values)[:1] != outputs.shape[:1] or wrong_loss:
            each = "one value" if name == "loss" else "one value, or one array,"
            raise InputError(
                f"{'' if name == 'loss' else 'metric '}{name} must return {each} for each of "
                f"{len(outputs)} examples, got shape {jnp.shape(values)}"
            )
    return {name: values.astype(jnp.float32) for name, values in measured.items()}


def weighted_sum(
    weight: Float[Array, " batch"], values: Float[Array, "batch ..."]
) -> Float[Array, "..."]:
    """Return Σ_i weight_i · values_i."""
    return (weight.reshape(-1, *[1] * (values.ndim - 1)) * values).sum(axis=0)
