"""Max-pooling as the maximum of shifted maps, with a gradient that goes to the first maximum.

y[p, c] = max_a x[s·p + r·a − lo, c]
ẏ[p, c] = ẋ[s·p + r·a(p, c) − lo, c],    a(p, c) the first tap with x[s·p + r·a − lo, c] = y[p, c]
"""

from __future__ import annotations

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cnn.ops.lowering.apart import apart
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
    find = apart(functools.partial(_first_winner, at=at))
    winner = find(lax.stop_gradient(x), lax.stop_gradient(y))
    moves = pad_with(0.0, dx, at.pairs)
    if at.strides == at.window and set(at.dilation) == {1}:
        back = apart(functools.partial(_into_tiles, at=at, shape=moves.shape))
        (dy,) = jax.linear_transpose(lambda g: back(g, winner), y)(moves)
        return y, dy
    picked = [jnp.where(winner == a, m, 0) for a, m in enumerate(taps(moves, at))]
    return y, functools.reduce(jnp.add, picked)


def _first_winner(x: Array, y: Array, at: Placement) -> Int[Array, "batch *out c"]:
    winner = jnp.zeros(y.shape, jnp.int8)
    seen = taps(pad_with(-jnp.inf, x, at.pairs), at)
    for a, value in reversed(list(enumerate(seen))):
        wins = (value == y) | (value != value)
        winner = lax.select(wins, jnp.full_like(winner, a), winner)
    return winner


def _into_tiles(
    g: Array, winner: Array, at: Placement, shape: tuple[int, ...]
) -> Float[Array, "batch *padded c"]:
    """Put `g` where it was taken from, windows side by side: no cell is written twice."""
    nothing = jnp.zeros_like(g)
    maps = [lax.select(winner == a, g, nothing) for a in range(math.prod(at.window))]
    for axis in range(len(at.window), 0, -1):  # the map of every tap but along this axis
        k, n = at.window[axis - 1], at.out[axis - 1]
        rows = [jnp.stack(maps[i : i + k], axis + 1) for i in range(0, len(maps), k)]
        maps = [m.reshape(*m.shape[:axis], n * k, *m.shape[axis + 2 :]) for m in rows]
    missing = [(0, n - m, 0) for n, m in zip(shape, maps[0].shape, strict=True)]
    return lax.pad(maps[0], jnp.zeros((), g.dtype), missing)
