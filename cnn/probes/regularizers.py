"""Soft biases: what a convolution has built in, as a price in place of a constraint.

A penalty is a function of one layer's kernel, to be added to a loss with a strength of its own:
`loss + 1e-3 * locality_penalty(params["layers_0"]["kernel"], model.layers[0])`.
"""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.layers import ConvBase
from cnn.probes.filters import filters


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
