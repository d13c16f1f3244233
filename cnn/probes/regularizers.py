"""Soft biases: what a convolution has built in, as a price in place of a constraint.

A penalty is a function of one layer's kernel, to be added to a loss with a strength of its own:
`loss + 1e-3 * locality_penalty(params["layers_0"]["kernel"], model.layers[0])`.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.layers import ConvBase
from cnn.probes.filters import filters


def beta_lasso(
    inner: optax.GradientTransformation, strength: float, beta: float
) -> optax.GradientTransformation:
    """Return the optimizer `inner` with a pull to zero before it and a threshold after it.

    β-LASSO (Neyshabur 2020, algorithm 1), with λ the `strength` and η the learning rate of SGD:

        θ ← θ − η · (∇f + λ · sign θ)
        θ ← θ · [|θ| > β · λ]

    Only kernels are touched. The learning rate is that of `inner`: it scales the pull, not the
    threshold. An `inner` that adapts its steps, or has momentum, treats the pull as gradient.
    `update` needs `params`. Raises `InputError` if `strength` or `beta` is negative.
    """
    for name, value in (("strength", strength), ("beta", beta)):
        if not value >= 0:
            raise InputError(f"{name} {value} cannot be: give 0 or more")

    def pull(gradient: Array, w: Array) -> Array:
        return gradient + strength * jnp.sign(w)

    def threshold(step: Array, w: Array) -> Array:
        return jnp.where(jnp.abs(w + step) > beta * strength, step, -w)

    first, last = map(optax.stateless_with_tree_map, (pull, threshold))
    return optax.chain(optax.masked(first, kernels), inner, optax.masked(last, kernels))


def kernels(params: Any) -> Any:
    """Return for each leaf of `params` whether it is a kernel, by its name."""
    return jax.tree_util.tree_map_with_path(lambda path, _: path[-1].key.endswith("kernel"), params)


def locality_penalty(kernel: Float[Array, "..."], layer: ConvBase) -> Float[Array, ""]:
    """Return Σ_p Σ_δ |δ|² · w[p, δ]², δ the offset of an input from the centre of the window.

    `kernel` is that of `layer`, windowed or dense; distances are Euclidean, in input positions.
    """
    w = filters(kernel, layer)
    by_offset = jnp.square(w.weights).sum((0, 2, 3))
    return by_offset @ jnp.asarray((w.offsets**2).sum(-1), kernel.dtype)


def sharing_penalty(kernel: Float[Array, "..."], layer: ConvBase) -> Float[Array, ""]:
    """Return Σ_p Σ_δ |w[p, δ] − w̄[δ]|², w̄ the mean over positions: zero for a convolution.

    `kernel` is that of `layer`: positions are the phases of a tiled layer, and the mean for a dense
    one is taken over those positions for which the offset δ is inside the input.
    """
    w = filters(kernel, layer)
    count = jnp.asarray(w.seen.sum(0).clip(1), kernel.dtype)
    mean = w.weights.sum(0, keepdims=True) / count[None, :, None, None]
    apart = jnp.where(w.seen[..., None, None], w.weights - mean, 0)
    return jnp.square(apart).sum()
