"""Soft biases: penalties on a layer's kernel, in place of a constraint.

Add a penalty to the loss with a strength of its own:
`loss + 1e-3 * locality_penalty(params["layers_0"]["kernel"], model.layers[0])`.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.layers import ConvBase
from cnn.probes.filters import filters


def locality_penalty(kernel: Array, layer: ConvBase) -> Float[Array, ""]:
    """Return Σ_p Σ_δ |δ|² · w[p, δ]², δ the offset of an input from the centre of the window.

    Distances are Euclidean, in input positions.
    """
    w = filters(kernel, layer)
    by_offset = jnp.square(w.weights).sum((0, 2, 3))
    return by_offset @ jnp.asarray((w.offsets**2).sum(-1), kernel.dtype)


def sharing_penalty(kernel: Array, layer: ConvBase) -> Float[Array, ""]:
    """Return Σ_p Σ_δ |w[p, δ] − w̄[δ]|², w̄ the mean over positions: zero for a convolution.

    For a `DenseSpatial`, w̄[δ] is the mean over the positions at which δ is inside the input.
    """
    w = filters(kernel, layer)
    count = jnp.asarray(w.mask.sum(0).clip(1), kernel.dtype)
    mean = w.weights.sum(0, keepdims=True) / count[None, :, None, None]
    return jnp.square(jnp.where(w.mask[..., None, None], w.weights - mean, 0)).sum()
