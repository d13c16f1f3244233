"""Max-pooling as the maximum of shifted maps, with a gradient that goes to the first maximum.

y[p, c] = max_a x[s·p + r·a − lo, c]
ẏ[p, c] = Σ_a [a is the first tap with x[s·p + r·a − lo, c] = y[p, c]] ẋ[s·p + r·a − lo, c]
"""

from __future__ import annotations

import functools

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.lowering.taps import pad_with, taps
from cnn.ops.window import Placement


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: Float[Array, "batch *spatial c"], at: Placement) -> Float[Array, "batch *out c"]:
    """Return the largest value in each window; padding never wins, and NaN always does."""
    return functools.reduce(jnp.maximum, taps(pad_with(-jnp.inf, x, at.pairs), at))


@max_pool.defjvp
def _tangent(at: Placement, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y = max_pool(x, at)
    winner = lax.stop_gradient(y)
    taken = jnp.zeros(y.shape, bool)
    dy = jnp.zeros_like(y)
    moved = taps(pad_with(0.0, dx, at.pairs), at)
    for seen, moves in zip(taps(pad_with(-jnp.inf, x, at.pairs), at), moved, strict=True):
        wins = (seen == winner) | jnp.isnan(seen)
        dy = dy + jnp.where(wins & ~taken, moves, 0)
        taken = taken | wins
    return y, dy
