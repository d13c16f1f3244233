"""How local and how shared the weights of a layer have become in training."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn.layers import ConvBase
from cnn.probes.filters import filters


def learned_locality(kernel: Array, layer: ConvBase, radius: float) -> Float[Array, ""]:
    """Return Σ_{|δ| ≤ radius} w[p, δ]² / Σ w[p, δ]²: the share of weight within `radius`.

    δ is the offset of an input from the centre of the window at p, |δ| its largest component: a
    window of 2r + 1 lies within radius r. Compare with the untrained kernel, and with equal
    weights, `learned_locality(jnp.ones_like(kernel), layer, radius)`.
    """
    w = filters(kernel, layer)
    mass = jnp.square(w.weights).sum((0, 2, 3))
    near = np.abs(w.offsets).max(-1) <= radius
    return mass[near].sum() / mass.sum()


def learned_sharing(kernel: Array, layer: ConvBase) -> Float[Array, " distances"]:
    """Return the correlation of filters by their distance: 0, 1, 2, … output positions.

    Entry d is the mean of ⟨w_p, w_q⟩ / (|w_p| |w_q|) over the pairs of positions whose largest
    distance along an axis is d: 1 for shared weights, about 0 for independent ones. Weights are
    compared at equal offsets and channels, over the offsets that both filters have. A pair with a
    zero norm does not count; an entry without pairs is nan.
    """
    w = filters(kernel, layer)
    flat = w.weights.reshape(len(w.positions), -1)
    mask = jnp.broadcast_to(w.mask[..., None, None], w.weights.shape).reshape(flat.shape)
    # Channels are summed in the same product: jaxlib 0.10.2 to 0.12.0 on the CPU read beyond
    # their memory where a sum is multiplied by a constant matrix of ones.
    mass = jnp.square(flat) @ mask.T.astype(flat.dtype)
    norms = jnp.sqrt(mass * mass.T)  # mass[p, q]: |w_p|² over the offsets that q has
    counts = norms > 0
    correlation = jnp.where(counts, flat @ flat.T / jnp.where(counts, norms, 1), 0)
    distance = np.abs(w.positions[:, None] - w.positions[None]).max(-1, initial=0).astype(int)

    def per_distance(pairs: Array) -> Array:
        return jax.ops.segment_sum(pairs.ravel(), distance.ravel(), int(distance.max()) + 1)

    return per_distance(correlation) / per_distance(counts.astype(flat.dtype))
