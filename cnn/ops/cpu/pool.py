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

from cnn.ops.cpu.no_fusion import apart
from cnn.ops.cpu.patches import pad_with, spread_out, taps
from cnn.ops.window import WindowSpec


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: Float[Array, "batch *spatial c"], at: WindowSpec) -> Float[Array, "batch *out c"]:
    """Return the largest value in each window; padding never wins, and NaN always does."""
    return functools.reduce(jnp.maximum, taps(pad_with(-jnp.inf, x, at.pairs), at))


@max_pool.defjvp
def _tangent(at: WindowSpec, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y = max_pool(x, at)
    find = apart(functools.partial(_first_winner, at=at))
    winner = find(lax.stop_gradient(x), lax.stop_gradient(y))
    side_by_side = at.strides == at.window and set(at.dilation) == {1}
    back = functools.partial(_into_tiles if side_by_side else _onto_cells, at=at)
    (dy,) = jax.linear_transpose(lambda g: back(g, winner), y)(dx)
    return y, dy


def _first_winner(x: Array, y: Array, at: WindowSpec) -> Int[Array, "batch *out c"]:
    seen = taps(pad_with(-jnp.inf, x, at.pairs), at)
    winner = jnp.full(y.shape, len(seen) - 1, jnp.int8)  # the last one, if no other is
    for a, value in reversed(list(enumerate(seen[:-1]))):
        wins = (value == y) | (value != value)
        winner = lax.select(wins, jnp.full_like(winner, a), winner)
    return winner


def _into_tiles(g: Array, winner: Array, at: WindowSpec) -> Float[Array, "batch *spatial c"]:
    """Put `g` where it was taken from, windows side by side: no cell is written twice."""
    return apart(functools.partial(_interleaved, at=at))(g, winner)


def _interleaved(g: Array, winner: Array, at: WindowSpec) -> Array:
    nothing = jnp.zeros_like(g)
    maps = [lax.select(winner == a, g, nothing) for a in range(math.prod(at.window))]
    for axis in range(len(at.window), 0, -1):  # the map of every tap but along this axis
        k, n = at.window[axis - 1], at.out[axis - 1]
        rows = [jnp.stack(maps[i : i + k], axis + 1) for i in range(0, len(maps), k)]
        maps = [m.reshape(*m.shape[:axis], n * k, *m.shape[axis + 2 :]) for m in rows]
    ends = [
        (-lo, n + lo - m, 0)
        for n, m, (lo, _) in zip(at.size, maps[0].shape[1:], at.pairs, strict=False)
    ]
    return lax.pad(maps[0], jnp.zeros((), g.dtype), [(0, 0, 0), *ends, (0, 0, 0)])


def _onto_cells(g: Array, winner: Array, at: WindowSpec) -> Float[Array, "batch *spatial c"]:
    """Sum, for every cell, what the windows that it is in took from it."""
    pad_g = apart(lambda g: spread_out(0.0, g, at)[0])
    pad_winner = apart(lambda w: spread_out(-1, w, at)[0])
    over = spread_out(0.0, g, at)[1]

    def total(g: Array, winner: Array) -> Array:
        nothing = jnp.zeros((len(g), *over.out, g.shape[-1]), g.dtype)
        seen = zip(taps(g, over), reversed(range(math.prod(at.window))), strict=True)
        came = [
            lax.select(w == a, m, nothing)
            for (m, a), w in zip(seen, taps(winner, over), strict=True)
        ]
        return functools.reduce(lax.add, came)

    return apart(total)(pad_g(g), pad_winner(winner))
