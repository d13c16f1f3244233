"""What happens between the gradient and the update: clipping, optimizer, decay, learning rate.

A run's update is, from left to right:

    gradient → clip to `clip_norm` → optimizer with weight decay and learning rate η(step)

with η(step) = lr · schedule(step). `lr` is data (`TrainState.lr`), so learning rates share a
program.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
import optax.contrib
from jax.typing import ArrayLike
from jaxtyping import Array

from cnn.errors import InputError, unknown_name
from cnn.layers.serialization import import_function
from cnn.train.fields import parse_arguments
from cnn.train.recipe import Recipe
from cnn.train.state import Tree

Factory = Callable[..., optax.GradientTransformation]
"""`(learning_rate, **arguments)` → a transformation, as `optax.adamw`."""


def make_optimizer(recipe: Recipe) -> optax.GradientTransformationExtraArgs:
    """Return the optimizer of `recipe`.

    Its `update` takes two keywords: `lr` multiplies the learning rate of the recipe, and `value` is
    the loss, which a few of optax's optimizers use. The decay applies to kernels only.

    Raises:
        InputError: If the name or an argument is unknown, or the decay cannot be applied.
    """
    schedule = make_schedule(recipe)
    constant = recipe.schedule == "constant" and not recipe.warmup
    given = recipe.optimizer
    factory = None if isinstance(given, optax.GradientTransformation) else _factory(recipe)

    def transformation(lr: ArrayLike) -> optax.GradientTransformationExtraArgs:
        def rate(count: Array) -> Array:
            return lr * schedule(count)

        if factory is None:
            tx = optax.chain(given, optax.scale_by_schedule(rate))
        else:
            tx = factory(lr * schedule(0) if constant else rate)
        if recipe.clip_norm is not None:
            tx = optax.chain(optax.clip_by_global_norm(recipe.clip_norm), tx)
        return optax.with_extra_args_support(tx)

    def init(params: Tree) -> optax.OptState:
        return transformation(1.0).init(params)

    def update(
        grads: Tree, state: optax.OptState, params: Tree = None, *, lr: ArrayLike, **extra: Any
    ) -> tuple[Tree, optax.OptState]:
        return transformation(lr).update(grads, state, params, **extra)

    return optax.GradientTransformationExtraArgs(init, update)


def _factory(recipe: Recipe) -> Factory:
    """Return `learning_rate → transformation`, with the recipe's arguments and decay."""
    factory = _find(recipe.optimizer)
    name = recipe.optimizer if isinstance(recipe.optimizer, str) else _name(factory)
    parameters = inspect.signature(factory).parameters
    arguments = parse_arguments("optimizer_args", recipe.optimizer_args)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for argument in arguments:
        if argument in ("weight_decay", "learning_rate"):
            remedy = {"weight_decay": "weight_decay", "learning_rate": "lr"}[argument]
            raise InputError(f"optimizer_args must not contain {argument}: give {remedy}")
        if argument not in parameters and not takes_any:
            raise unknown_name(f"argument of optimizer {name}", argument, [*parameters][1:])
    if "weight_decay" in parameters:
        arguments["weight_decay"] = recipe.weight_decay
        masks = {"mask", "weight_decay_mask"} & {*parameters} - {*arguments}
        if recipe.weight_decay and not masks:
            raise InputError(
                f"weight_decay must be 0 with optimizer {name}, which would decay biases too, got "
                f"{recipe.weight_decay}"
            )
        return lambda rate: factory(rate, **arguments, **dict.fromkeys(masks, kernels))
    if not recipe.weight_decay:
        return lambda rate: factory(rate, **arguments)
    decay = optax.add_decayed_weights(recipe.weight_decay, mask=kernels)
    return lambda rate: optax.chain(decay, factory(rate, **arguments))


def _find(optimizer: Any) -> Factory:
    """Return the factory of a name. A factory is returned as it is."""
    if not isinstance(optimizer, str):
        return optimizer
    if ":" in optimizer:
        return import_function("optimizer", optimizer)
    known = names()
    if optimizer not in known:
        raise unknown_name("optimizer", optimizer, known)
    return known[optimizer]


def names() -> dict[str, Factory]:
    """Return the optimizers known by name: optax's aliases, those of `optax.contrib`, β-LASSO."""
    found: dict[str, Factory] = {}
    for module in (optax.contrib, optax):
        for name in dir(module):
            function = getattr(module, name)
            if name.startswith(("_", "scale_by")) or not inspect.isfunction(function):
                continue
            if next(iter(inspect.signature(function).parameters), "") == "learning_rate":
                found[name] = function
    return {**found, "beta-lasso": beta_lasso_sgd}


def _name(factory: Any) -> str:
    return str(getattr(getattr(factory, "func", factory), "__name__", factory))


def check_optimizer(recipe: Recipe, params: Tree) -> None:
    """Raise `InputError` if the recipe's optimizer cannot train `params`. Nothing is computed."""
    tx = make_optimizer(recipe)

    def try_out(params: Tree, lr: Array) -> Tree:
        updates, _ = tx.update(params, tx.init(params), params, lr=lr, value=jnp.zeros(()))
        return updates

    def initial(lr: float) -> str:
        return str(jax.make_jaxpr(make_optimizer(replace(recipe, lr=lr)).init)(params))

    try:
        state = jax.eval_shape(tx.init, params)
        updates = jax.eval_shape(try_out, params, jnp.ones(()))
        depends = initial(1.0) != initial(2.0)
    except InputError:
        raise
    except Exception as error:  # a factory of somebody else can raise anything
        line = " ".join(str(error).split())[:200]
        raise InputError(f"optimizer {_text(recipe)} cannot be used: {line}") from error
    if jax.tree.map(jnp.shape, updates) != jax.tree.map(jnp.shape, params):
        raise InputError(f"optimizer {_text(recipe)} must return updates shaped like the weights")
    if depends:
        raise InputError(
            f"optimizer {_text(recipe)} has an initial state that depends on the learning rate, "
            "which is not supported: choose another"
        )
    leaves = jax.tree.leaves(state)
    if any(jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key) or not leaf.size for leaf in leaves):
        raise InputError(
            f"optimizer {_text(recipe)} keeps random keys or empty arrays, which checkpoints "
            "cannot hold: choose another"
        )
    if "ScheduleFreeState" in str(jax.tree.structure(state)):
        raise InputError(
            f"optimizer {_text(recipe)} evaluates other weights than it trains, which is not "
            "supported: choose another, with ema for an average"
        )


def _text(recipe: Recipe) -> str:
    optimizer: Any = recipe.optimizer
    return repr(optimizer) if isinstance(optimizer, str) else _name(optimizer)


def make_schedule(recipe: Recipe) -> optax.Schedule:
    """Return the learning rate as a function of the step, before `TrainState.lr` multiplies it.

    "one-cycle" rises from lr / 25 over the first 30 % of the steps and ends at lr / 250,000.
    """
    given, lr = recipe.schedule, recipe.lr
    if not isinstance(given, str):
        return lambda count: lr * given(count)
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


def beta_lasso_sgd(
    learning_rate: optax.ScalarOrSchedule, weight_decay: float, mask: Any, beta: float = 50.0
) -> optax.GradientTransformation:
    """Return plain SGD with β-LASSO of the weights in `mask`, λ = `weight_decay`."""
    return beta_lasso(optax.sgd(learning_rate), weight_decay, beta, mask)


def beta_lasso(
    inner: optax.GradientTransformation, strength: float, beta: float, mask: Any = None
) -> optax.GradientTransformation:
    """Return `inner` with an L1 gradient added before it and a hard threshold after it.

    β-LASSO with λ the `strength` and η the learning rate of SGD:

        θ ← θ − η · (∇f + λ · sign θ)
        θ ← θ · [|θ| > β · λ]

    Only the weights in `mask`, by default the kernels, are changed. The learning rate of `inner`
    scales the L1 gradient, not the threshold. An adaptive `inner`, or one with momentum, treats the
    L1 term as gradient. `update` needs `params`.

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
    mask = mask or kernels
    return optax.chain(optax.masked(l1, mask), inner, optax.masked(threshold, mask))


def kernels(params: Any) -> Any:
    """Return a tree like `params` with True at each kernel, known by its name."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith("kernel"), params)
