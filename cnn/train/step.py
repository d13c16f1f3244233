"""One training step and one evaluation, as pure functions of what a single device sees."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float, Int, Key

from cnn.data.augment import MIXING, augment, mix, partners
from cnn.layers.combinators import BLOCK, train_argument
from cnn.train.losses import make_loss
from cnn.train.metrics import make_metrics, measure, weighted_sum
from cnn.train.positional_key import positional_key
from cnn.train.recipe import Recipe
from cnn.train.state import TrainState, Tree, to_variables


class Batch(NamedTuple):
    """Examples `x`, `(batch, *spatial, channels)`, and their targets `y`.

    Of mixed examples also `other`, the targets of the examples mixed in, and `share`, the weight of
    `y`.
    """

    x: Float[Array, "batch *spatial channels"]
    y: Int[Array, " batch"] | Float[Array, "batch ..."]
    other: Int[Array, " batch"] | Float[Array, "batch ..."] | None = None
    share: Float[Array, " batch"] | None = None


Metrics = dict[str, Float[Array, "..."]]
Gradients = Callable[[Tree, Tree, Key[Array, ""], Batch], tuple[Tree, tuple[Tree, Metrics]]]
"""`(params, batch_stats, key of the step, batch)` → `(gradients, (batch_stats, metrics))`."""
Evaluate = Callable[[dict[str, Tree], Batch, Float[Array, " batch"]], Metrics]
"""`(variables, batch, weights)` → weighted sums over the batch."""
REMAT_POLICY = jax.checkpoint_policies.save_only_these_names(BLOCK)
"""With `recipe.remat`, the backward pass recomputes everything but the outputs of blocks."""
FREE = {"all_gather", "broadcast_in_dim", "convert_element_type", "reshape", "squeeze", "transpose"}
"""Primitives without arithmetic, which stand between a part of a weight and the layer."""
AUGMENTATION = 2**32 - 1
"""Folded into a step's key for augmentation; 0 is for the noise of the model, such as dropout."""


def forward(
    model: nn.Module,
    recipe: Recipe,
    variables: dict[str, Tree],
    x: Float[Array, "batch *spatial channels"],
    train: bool = False,
    **kwargs: Any,
) -> Any:
    """Return `model.apply(variables, x, **kwargs)`, computed in `recipe.precision`.

    `train` is passed on if the model's call takes it. Running statistics stay float32, because
    their updates are small compared to their values.
    """
    dtype = jnp.dtype(recipe.precision)
    params = jax.tree.map(lambda w: w.astype(dtype), variables["params"])
    kwargs |= train_argument(model, train)
    return model.apply({**variables, "params": params}, x.astype(dtype), **kwargs)


def gather_again(primitive: Any, *_: Any, **__: Any) -> bool:
    """Keep everything for the backward pass, but weights only as the part that a device holds."""
    return primitive.name not in FREE


def train_step(
    model: nn.Module,
    tx: optax.GradientTransformationExtraArgs,
    recipe: Recipe,
    state: TrainState,
    batch: Batch,
    gradients: Gradients | None = None,
) -> tuple[TrainState, Metrics]:
    """Take one step with the `gradients`; by default those of `mean_gradients`, on one device."""
    gradients = gradients or partial(mean_gradients, model, recipe)
    step_key = jax.random.fold_in(state.key, state.step)
    grads, (batch_stats, metrics) = gradients(state.params, state.batch_stats, step_key, batch)
    updates, opt_state = tx.update(
        grads, state.opt_state, state.params, lr=state.lr, value=metrics["loss"]
    )
    params = optax.apply_updates(state.params, updates)
    next_state = state.replace(
        step=state.step + 1,
        updates=state.updates + 1,
        params=params,
        batch_stats=batch_stats,
        opt_state=opt_state,
        average=_moving_average(recipe.ema, state, to_variables(params, batch_stats)),
    )
    norms = jnp.stack([jnp.sqrt(jnp.vdot(g, g)) for g in jax.tree.leaves(grads)])
    return next_state, {**metrics, "gradient_norms": norms}


def mean_gradients(
    model: nn.Module,
    recipe: Recipe,
    params: Tree,
    batch_stats: Tree,
    key: Key[Array, ""],
    batch: Batch,
    gather: Callable[[Tree], Tree] = lambda params: params,
    mean: Callable[[Tree], Tree] = lambda gradients: lax.pmean(gradients, "data"),
) -> tuple[Tree, tuple[Tree, Metrics]]:
    """Return gradients, and running statistics and metrics, averaged over the axis "data".

    Devices have equally many examples, and so have the parts of `recipe.accumulate`, so the mean of
    means is the mean over the batch. Batch normalization sees single parts.

    Args:
        params: What this device holds of the parameters.
        key: Of the step, the same on all devices.
        batch: This device's part.
        gather: Makes the parameters of what the devices hold.
        mean: Averages gradients over the devices.
    """

    def gradient(
        batch_stats: Tree, part: Batch, first: Int[Array, ""]
    ) -> tuple[Tree, tuple[Tree, Metrics]]:
        noise_key = positional_key(jax.random.fold_in(key, 0), first)

        def objective(params: Tree) -> tuple[Array, tuple[Tree, Metrics]]:
            outputs, updated = forward(
                model,
                recipe,
                to_variables(gather(params), batch_stats),
                part.x,
                train=True,
                rngs={"dropout": noise_key},
                mutable=["batch_stats"],
            )
            outputs = outputs.astype(jnp.float32)
            measured = measure(loss, extra, outputs, part.y)
            if part.share is not None and part.other is not None:
                others = measure(loss, extra, outputs, part.other)
                measured = {k: _mixed(part.share, v, others[k]) for k, v in measured.items()}
            metrics = {name: values.mean(axis=0) for name, values in measured.items()}
            return metrics["loss"], (updated.get("batch_stats", {}), metrics)

        if recipe.remat or recipe.shard_params:
            policy = REMAT_POLICY if recipe.remat else gather_again
            objective = jax.checkpoint(objective, policy=policy)
        grads, (batch_stats, metrics) = jax.grad(objective, has_aux=True)(params)
        return batch_stats, (grads, metrics)

    loss, extra = make_loss(recipe), make_metrics(recipe)
    first = lax.axis_index("data") * len(batch.y)
    if recipe.augment:
        positions = first + jnp.arange(len(batch.y))
        augment_key = jax.random.fold_in(key, AUGMENTATION)
        names = [name for name in recipe.augment if name not in MIXING]
        batch = batch._replace(x=augment(names, augment_key, positions, batch.x))
        if names != [*recipe.augment]:
            mix_key = jax.random.fold_in(augment_key, 0)
            x, share = mix(recipe.augment[-1], mix_key, positions, batch.x)
            batch = Batch(x, batch.y, partners(batch.y), share)
    if recipe.accumulate > 1:
        gradient = partial(_mean_over_parts, gradient, recipe.accumulate)
    batch_stats, (grads, metrics) = gradient(batch_stats, batch, first)
    return mean(grads), lax.pmean((batch_stats, metrics), "data")


def _mean_over_parts(
    gradient: Callable[[Tree, Batch, Array], tuple[Tree, Tree]],
    count: int,
    batch_stats: Tree,
    batch: Batch,
    first: Int[Array, ""],
) -> tuple[Tree, Tree]:
    """Return the mean of `gradient` over `count` equal parts of the batch, in a scan.

    `first` is the position of the first example in the batch of all devices.
    """
    parts = jax.tree.map(lambda a: a.reshape(count, -1, *a.shape[1:]), batch)

    def add(carry: tuple[Tree, Tree], xs: tuple[Array, Batch]) -> tuple[tuple[Tree, Tree], None]:
        batch_stats, total = carry
        batch_stats, measured = gradient(batch_stats, xs[1], xs[0])
        return (batch_stats, jax.tree.map(jnp.add, total, measured)), None

    one = jax.tree.map(lambda a: a[0], parts)
    shapes = jax.eval_shape(gradient, batch_stats, one, first)[1]
    firsts = first + len(one.y) * jnp.arange(count)
    zeros = jax.tree.map(lambda a: jnp.zeros(a.shape, a.dtype), shapes)
    (batch_stats, total), _ = lax.scan(add, (batch_stats, zeros), (firsts, parts))
    return batch_stats, jax.tree.map(lambda a: a / count, total)


def _mixed(
    share: Float[Array, " batch"],
    own: Float[Array, "batch ..."],
    other: Float[Array, "batch ..."],
) -> Float[Array, "batch ..."]:
    share = share.reshape(-1, *[1] * (own.ndim - 1))
    return share * own + (1 - share) * other


def _moving_average(decay: float, state: TrainState, new: dict[str, Tree]) -> dict[str, Tree]:
    """Return (1 - d) Σ_i d^(t-i) θ_i / (1 - d^t) after update t, without the initial weights.

    Reference:
        The bias-corrected average of Kingma & Ba (2015), section 7.2, written as an update.
    """
    if not state.average:
        return {}
    # (1 - d) / (1 - d^t); computing 1 - d^t directly would cancel all digits.
    step_size = (decay - 1) / jnp.expm1((state.updates + 1) * math.log(decay))
    return optax.incremental_update(new, state.average, step_size)


def evaluate_batch(
    model: nn.Module,
    recipe: Recipe,
    variables: dict[str, Tree],
    batch: Batch,
    weight: Float[Array, " batch"],
) -> Metrics:
    """Return weighted sums of loss and metrics over all devices. Labels are not smoothed here."""
    outputs = forward(model, recipe, variables, batch.x, train=False).astype(jnp.float32)
    hard = dataclasses.replace(recipe, label_smoothing=0.0)
    measured = measure(make_loss(hard), make_metrics(recipe), outputs, batch.y)
    sums = {name: weighted_sum(weight, values) for name, values in measured.items()}
    return lax.psum(sums, "data")
