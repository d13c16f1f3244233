"""One training step and one evaluation, as pure functions of what a single device sees."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from cnn.data.augment import augment
from cnn.layers.combinators import BLOCK
from cnn.train.recipe import Recipe
from cnn.train.state import TrainState, Tree, variables


class Batch(NamedTuple):
    """Examples: `x` is `(batch, *spatial, channels)`, `y` the class indices."""

    x: Float[Array, "batch *spatial channels"]
    y: Int[Array, " batch"]


Metrics = dict[str, Float[Array, ""]]
ONLY_BLOCKS = jax.checkpoint_policies.save_only_these_names(BLOCK)
"""What `recipe.remat` keeps on the way forward; all else is computed anew on the way back."""
OF_NO_DEVICE = 2**32 - 1
"""Folded into a step's key in the place of a device's number, for what all devices share."""


def cross_entropy(
    logits: Float[Array, "batch classes"], y: Int[Array, " batch"], smoothing: float = 0.0
) -> Float[Array, " batch"]:
    """-Σ_c t_c log softmax(logits)_c with t = (1 - smoothing)·onehot(y) + smoothing / classes.

    The label smoothing of Szegedy et al. (2016), section 7.
    """
    hard = optax.softmax_cross_entropy_with_integer_labels(logits, y)
    if not smoothing:
        return hard
    even = -jax.nn.log_softmax(logits).mean(axis=-1)
    return (1 - smoothing) * hard + smoothing * even


def forward(
    model: nn.Module,
    recipe: Recipe,
    given: dict[str, Tree],
    x: Float[Array, "batch *spatial channels"],
    **apply: Any,
) -> Any:
    """Return `model.apply(given, x, **apply)` as computed in `recipe.precision`.

    Running statistics are not rounded: they add up what is small beside them.
    """
    low = jnp.dtype(recipe.precision)
    params = jax.tree.map(lambda w: w.astype(low), given["params"])
    return model.apply({**given, "params": params}, x.astype(low), **apply)


def train_step(
    model: nn.Module,
    tx: optax.GradientTransformationExtraArgs,
    recipe: Recipe,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, Metrics]:
    """Take one step on this device's share of a batch; gradients are averaged over axis "data".

    Devices see equal shares, so the mean of their means is the mean over the whole batch. So do
    the parts of `recipe.accumulate`; batch normalisation sees the parts.
    """

    def gradient(batch_stats: Tree, part: Batch, key: Array) -> tuple[Tree, tuple[Tree, Metrics]]:
        def objective(params: Tree) -> tuple[Array, tuple[Tree, Metrics]]:
            logits, updated = forward(
                model,
                recipe,
                variables(params, batch_stats),
                part.x,
                train=True,
                rngs={"dropout": key},
                mutable=["batch_stats"],
            )
            logits = logits.astype(jnp.float32)
            loss = cross_entropy(logits, part.y, recipe.label_smoothing).mean()
            accuracy = (logits.argmax(axis=-1) == part.y).mean()
            return loss, (updated.get("batch_stats", {}), {"loss": loss, "accuracy": accuracy})

        objective = jax.checkpoint(objective, policy=ONLY_BLOCKS) if recipe.remat else objective
        grads, (batch_stats, metrics) = jax.grad(objective, has_aux=True)(state.params)
        return batch_stats, (grads, metrics)

    step_key, device = jax.random.fold_in(state.key, state.step), lax.axis_index("data")
    if recipe.augment:
        positions = device * len(batch.y) + jnp.arange(len(batch.y))
        x = augment(recipe.augment, jax.random.fold_in(step_key, OF_NO_DEVICE), positions, batch.x)
        batch = batch._replace(x=x)
    key = jax.random.fold_in(step_key, device)
    if recipe.accumulate > 1:
        gradient = partial(_mean_over_parts, gradient, recipe.accumulate)
    batch_stats, measured = gradient(state.batch_stats, batch, key)
    batch_stats, (grads, metrics) = lax.pmean((batch_stats, measured), "data")
    updates, opt_state = tx.update(grads, state.opt_state, state.params, lr=state.lr)
    params = optax.apply_updates(state.params, updates)
    successor = state.replace(
        step=state.step + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=_averaged(recipe.ema, state, variables(params, batch_stats)),
    )
    norms = jnp.stack([jnp.sqrt(jnp.vdot(g, g)) for g in jax.tree.leaves(grads)])
    return successor, {**metrics, "gradient_norms": norms}


def _mean_over_parts(
    gradient: Callable[[Tree, Batch, Array], tuple[Tree, Tree]],
    number: int,
    batch_stats: Tree,
    batch: Batch,
    key: Array,
) -> tuple[Tree, Tree]:
    """Return the mean of what `gradient` gives on so many equal parts of the batch, in a scan."""
    parts = jax.tree.map(lambda a: a.reshape(number, -1, *a.shape[1:]), batch)

    def add(carry: tuple[Tree, Tree], now: tuple[Array, Batch]) -> tuple[tuple[Tree, Tree], None]:
        batch_stats, total = carry
        batch_stats, measured = gradient(batch_stats, now[1], jax.random.fold_in(key, now[0]))
        return (batch_stats, jax.tree.map(jnp.add, total, measured)), None

    first = jax.tree.map(lambda a: a[0], parts)
    like = jax.eval_shape(gradient, batch_stats, first, key)[1]
    zero = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), like)
    (batch_stats, total), _ = lax.scan(add, (batch_stats, zero), (jnp.arange(number), parts))
    return batch_stats, jax.tree.map(lambda a: a / number, total)


def _averaged(decay: float, state: TrainState, now: dict[str, Tree]) -> dict[str, Tree]:
    """Return (1 - d) Σ_i d^(t-i) θ_i / (1 - d^t) after step t: the initial weights count nothing.

    The corrected average of Kingma & Ba (2015), section 7.2, as a step from the one before.
    """
    if not state.average:
        return {}
    # 1 - d^t, of which floats keep no digit when it is written like this.
    share = (decay - 1) / jnp.expm1((state.step + 1) * math.log(decay))
    return optax.incremental_update(now, state.average, share)


def evaluate_batch(
    model: nn.Module,
    recipe: Recipe,
    state: TrainState,
    batch: Batch,
    weight: Float[Array, " batch"],
) -> Metrics:
    """Sum cross-entropy and right answers over all devices; `weight` 0 leaves an example out."""
    logits = forward(model, recipe, state.variables, batch.x).astype(jnp.float32)
    sums = {
        "loss": (weight * cross_entropy(logits, batch.y)).sum(),
        "accuracy": (weight * (logits.argmax(axis=-1) == batch.y)).sum(),
    }
    return lax.psum(sums, "data")
