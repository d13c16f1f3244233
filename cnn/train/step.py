"""One training step and one evaluation, as pure functions of what a single device sees."""

from __future__ import annotations

from typing import NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int

from cnn.penalties import beta_lasso, kernels
from cnn.recipe import Recipe
from cnn.train.state import TrainState, Tree, variables


class Batch(NamedTuple):
    """Examples: `x` is `(batch, *spatial, channels)`, `y` the class indices."""

    x: Float[Array, "batch *spatial channels"]
    y: Int[Array, " batch"]


Metrics = dict[str, Float[Array, ""]]


def optimizer(recipe: Recipe) -> optax.GradientTransformation:
    """Return the optimizer that `recipe` names, weight decay on kernels only."""
    rate = learning_rate(recipe)
    if recipe.optimizer == "adam":
        return optax.adamw(rate, weight_decay=recipe.weight_decay, mask=kernels)
    if recipe.optimizer == "beta-lasso":
        return beta_lasso(optax.sgd(rate), recipe.weight_decay, beta=50)
    return optax.chain(
        optax.add_decayed_weights(recipe.weight_decay, mask=kernels),
        optax.sgd(rate, momentum=0.9, nesterov=True),
    )


def learning_rate(recipe: Recipe) -> optax.Schedule:
    """Return the learning rate as a function of the step."""
    if recipe.schedule == "cosine":
        rest: optax.Schedule = optax.cosine_decay_schedule(
            recipe.lr, max(recipe.steps - recipe.warmup, 1)
        )
    else:
        rest = optax.constant_schedule(recipe.lr)
    if not recipe.warmup:
        return rest
    rise = optax.linear_schedule(0.0, recipe.lr, recipe.warmup)
    return optax.join_schedules([rise, rest], [recipe.warmup])


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


def train_step(
    model: nn.Module,
    tx: optax.GradientTransformation,
    label_smoothing: float,
    state: TrainState,
    batch: Batch,
) -> tuple[TrainState, Metrics]:
    """Take one step on this device's share of a batch; gradients are averaged over axis "data".

    Devices see equal shares, so the mean of their means is the mean over the whole batch.
    """
    key = jax.random.fold_in(state.key, state.step)

    def objective(params: Tree) -> tuple[Array, tuple[Array, Tree]]:
        logits, updated = model.apply(
            variables(params, state.batch_stats),
            batch.x,
            train=True,
            rngs={"dropout": jax.random.fold_in(key, lax.axis_index("data"))},
            mutable=["batch_stats"],
        )
        loss = cross_entropy(logits, batch.y, label_smoothing).mean()
        return loss, (logits, updated.get("batch_stats", {}))

    gradient = jax.value_and_grad(objective, has_aux=True)
    (loss, (logits, batch_stats)), grads = gradient(state.params)
    accuracy = (logits.argmax(axis=-1) == batch.y).mean()
    loss, accuracy, grads, batch_stats = lax.pmean((loss, accuracy, grads, batch_stats), "data")
    updates, opt_state = tx.update(grads, state.opt_state, state.params)
    successor = state.replace(
        step=state.step + 1,
        params=optax.apply_updates(state.params, updates),
        batch_stats=batch_stats,
        opt_state=opt_state,
    )
    return successor, {"loss": loss, "accuracy": accuracy}


def evaluate_batch(
    model: nn.Module, state: TrainState, batch: Batch, weight: Float[Array, " batch"]
) -> Metrics:
    """Sum cross-entropy and right answers over all devices; `weight` 0 leaves an example out."""
    logits = jnp.asarray(model.apply(state.variables, batch.x))
    sums = {
        "loss": (weight * cross_entropy(logits, batch.y)).sum(),
        "accuracy": (weight * (logits.argmax(axis=-1) == batch.y)).sum(),
    }
    return lax.psum(sums, "data")
