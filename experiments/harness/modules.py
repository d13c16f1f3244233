"""Flax modules of single studies, which import them lazily: `--help` needs no Flax."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn.layers.initializers import fan_in_normal


class OverPositions(nn.Module):
    """One matrix over positions that all channels share: y[p, c] = Σ_q w[q, p] x[q, c].

    Attributes:
        reach: Positions on each side that an output sees; None for all.
        shared: w[q, p] depends on q − p alone.
    """

    reach: int | None
    shared: bool

    @nn.compact
    def __call__(self, x: Float[Array, "batch n c"]) -> Float[Array, "batch n c"]:
        n = x.shape[1]
        reach = n - 1 if self.reach is None else self.reach
        offset = np.arange(n)[:, None] - np.arange(n)
        is_seen = np.abs(offset) <= reach
        index = offset + reach if self.shared else np.cumsum(is_seen).reshape(n, n) - 1
        taps = int(is_seen.sum(0).max())
        kernel = self.param("kernel", fan_in_normal(1.0, taps), (int(index[is_seen].max()) + 1,))
        weights = jnp.where(is_seen, kernel[np.where(is_seen, index, 0)], 0)
        return jnp.einsum("bqc,qp->bpc", x, weights)


class Times(nn.Module):
    """x ↦ factor · x."""

    factor: float

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return self.factor * x
