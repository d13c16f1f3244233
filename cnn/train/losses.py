"""Losses: functions `f(outputs, targets) -> (batch,)`, one value for each example.

Outputs and float targets have the same shape. Over their axes a loss is the mean.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float, Int

from cnn.errors import InputError, unknown_name
from cnn.layers.serialization import import_function
from cnn.train.recipe import Recipe

Outputs = Float[Array, "batch ..."]
Loss = Callable[[Outputs, Any], Float[Array, " batch"]]


def cross_entropy(
    logits: Float[Array, "batch classes"], y: Int[Array, " batch"], smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """Return -Σ_c t_c log softmax(logits)_c, t = (1 - smoothing)·onehot(y) + smoothing / classes.

    Reference:
        Label smoothing: Szegedy et al. (2016), section 7.
    """
    if not jnp.issubdtype(y.dtype, jnp.integer) or logits.shape[:-1] != y.shape:
        raise InputError(
            "loss cross-entropy needs outputs (batch, classes) and class indices (batch,), got "
            f"outputs {logits.shape} and {y.dtype} targets {y.shape}"
        )
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    if not smoothing:
        return hard
    uniform = -jax.nn.log_softmax(logits).mean(axis=-1)
    return (1 - smoothing) * hard + smoothing * uniform


def binary_cross_entropy(outputs: Outputs, targets: Outputs) -> Float[Array, " batch"]:
    """Return the mean of -t log σ(o) - (1 - t) log (1 - σ(o)), for targets from 0 to 1."""
    _check("binary-cross-entropy", outputs, targets)
    return per_example(optax.sigmoid_binary_cross_entropy(outputs, targets))


def squared_error(outputs: Outputs, targets: Outputs) -> Float[Array, " batch"]:
    """Return the mean of (o - t)²."""
    _check("squared-error", outputs, targets)
    return per_example(optax.squared_error(outputs, targets))


def absolute_error(outputs: Outputs, targets: Outputs) -> Float[Array, " batch"]:
    """Return the mean of |o - t|."""
    _check("absolute-error", outputs, targets)
    return per_example(jnp.abs(outputs - targets))


def huber(outputs: Outputs, targets: Outputs) -> Float[Array, " batch"]:
    """Return the mean of d² / 2 where d = |o - t| is at most 1, and of d - 1/2 elsewhere."""
    _check("huber", outputs, targets)
    return per_example(optax.huber_loss(outputs, targets))


def per_example(values: Float[Array, "batch ..."]) -> Float[Array, " batch"]:
    """Return the mean over all axes but the first."""
    return values.reshape(len(values), -1).mean(axis=1) if values.ndim > 1 else values


def _check(name: str, outputs: Outputs, targets: Array) -> None:
    # Without this check, (batch, 1) and (batch,) would be compared pairwise.
    if outputs.shape != targets.shape or not jnp.issubdtype(targets.dtype, jnp.floating):
        raise InputError(
            f"loss {name} needs float targets shaped like the outputs, got outputs "
            f"{outputs.shape} and {targets.dtype} targets {targets.shape}"
        )


LOSSES: dict[str, Loss] = {
    "cross-entropy": cross_entropy,
    "binary-cross-entropy": binary_cross_entropy,
    "squared-error": squared_error,
    "absolute-error": absolute_error,
    "huber": huber,
}


def make_loss(recipe: Recipe) -> Loss:
    """Return the loss of a recipe, with its label smoothing.

    Raises:
        InputError: If the name is unknown.
    """
    loss = recipe.loss
    if not isinstance(loss, str):
        return loss
    if loss == "cross-entropy":
        return partial(cross_entropy, smoothing=recipe.label_smoothing)
    if ":" in loss:
        return import_function("loss", loss)
    if loss not in LOSSES:
        raise unknown_name("loss", loss, LOSSES)
    return LOSSES[loss]
