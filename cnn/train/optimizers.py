"""What happens between the learning rate and the update: schedule, optimizer, β-LASSO.

A run's update is, from left to right:

    gradient → clip to `clip_norm` → optimizer with weight decay → × −schedule(step) → × state.lr

The schedule is compiled in, for `lr` 1; learning rates are data (`state.lr`) and share a program.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from cnn.errors import InputError
from cnn.train.recipe import Recipe
from cnn.train.state import Tree


def make_optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer that `recipe` names. Weight decay applies to kernels only.

    Its `update` takes the keyword `lr`, which multiplies the learning rate of the recipe.
    """
    schedule, decay = make_schedule(recipe), recipe.weight_decay
    if recipe.optimizer == "adamw":
        tx = optax.adamw(schedule, weight_decay=decay, mask=kernels)
    elif recipe.optimizer == "adadelta":
        tx = optax.adadelta(schedule, rho=0.9, weight_decay=decay, weight_decay_mask=kernels)
    elif recipe.optimizer == "sgd":
        sgd = optax.sgd(schedule, momentum=0.9, nesterov=True)
        tx = optax.chain(optax.add_decayed_weights(decay, mask=kernels), sgd)
    else:
        tx = optax.sgd(schedule)
    tx = optax.chain(tx, scale_by_lr())
    if recipe.optimizer == "beta-lasso":
        tx = beta_lasso(tx, decay, beta=50)
    if recipe.clip_norm is not None:
        tx = optax.chain(optax.clip_by_global_norm(recipe.clip_norm), tx)
    return tx


def make_schedule(recipe: Recipe) -> optax.Schedule:
    """Return the learning rate as a function of the step.

    "one-cycle" rises from lr / 25 over the first 30 % of the steps and ends at lr / 250,000.
    """
    if recipe.schedule == "one-cycle":
        return optax.cosine_onecycle_schedule(max(recipe.steps, 1), recipe.lr)
    if recipe.schedule == "cosine":
        decay_steps = max(recipe.steps - recipe.warmup, 1)
        schedule: optax.Schedule = optax.cosine_decay_schedule(recipe.lr, decay_steps)
    else:
        schedule = optax.constant_schedule(recipe.lr)
    if recipe.warmup:
        warmup = optax.linear_schedule(0.0, recipe.lr, recipe.warmup)
        schedule = optax.join_schedules([warmup, schedule], [recipe.warmup])
    return schedule


def scale_by_lr() -> optax.GradientTransformationExtraArgs:
    """Multiply the update by `lr`, a keyword of `update`, so that each state can have its own."""

    def update(updates: Tree, state: Tree, params: Tree = None, *, lr: Array, **_: Any) -> Any:
        return jax.tree.map(lambda u: lr * u, updates), state

    return optax.GradientTransformationExtraArgs(optax.init_empty_state, update)


def beta_lasso(
    inner: optax.GradientTransformation, strength: float, beta: float
) -> optax.GradientTransformation:
    """Return `inner` with an L1 gradient added before it and a hard threshold after it.

    β-LASSO with λ the `strength` and η the learning rate of SGD:

        θ ← θ − η · (∇f + λ · sign θ)
        θ ← θ · [|θ| > β · λ]

    Only kernels are changed. The learning rate of `inner` scales the L1 gradient, not the
    threshold. An adaptive `inner`, or one with momentum, treats the L1 term as gradient.
    `update` needs `params`.

    Raises:
        InputError: If `strength` or `beta` is negative.

    Reference:
        Neyshabur, "Towards Learning Convolutions from Scratch" (2020), algorithm 1.
    """
    for name, value in (("strength", strength), ("beta", beta)):
        if not value >= 0:
            raise InputError(f"{name} must be 0 or more, got {value}")

    l1 = optax.stateless_with_tree_map(lambda gradient, w: gradient + strength * jnp.sign(w))
    threshold = optax.stateless_with_tree_map(
        lambda update, w: jnp.where(jnp.abs(w + update) > beta * strength, update, -w)
    )
    return optax.chain(optax.masked(l1, kernels), inner, optax.masked(threshold, kernels))


def kernels(params: Any) -> Any:
    """Return a tree like `params` with True at each kernel, known by its name."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith("kernel"), params)
