"""Optimizers by name, their learning-rate schedules, and β-LASSO."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from cnn.errors import InputError


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

    def add_l1(gradient: Array, w: Array) -> Array:
        return gradient + strength * jnp.sign(w)

    def threshold(step: Array, w: Array) -> Array:
        return jnp.where(jnp.abs(w + step) > beta * strength, step, -w)

    first, last = map(optax.stateless_with_tree_map, (add_l1, threshold))
    return optax.chain(optax.masked(first, kernels), inner, optax.masked(last, kernels))


def kernels(params: Any) -> Any:
    """Return a tree like `params` with True at each kernel, known by its name."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith("kernel"), params)
