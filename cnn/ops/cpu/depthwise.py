"""Depthwise convolution as sums of shifted products, one multiplication per tap and channel.

y[b, p, c] = Σ_a x[b, s·p + r·a − lo, c] · w[a, c]
x̄[b, i, c] = Σ_a ȳ⁺[b, i + lo − r·a, c] · w[a, c]        ȳ⁺[s·p] = ȳ[p], else 0
w̄[a, c] = Σ_b Σ_p x[b, s·p + r·a − lo, c] · ȳ[b, p, c]
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.cpu.bilinear import bilinear
from cnn.ops.cpu.patches import pad_with, spread_out, taps
from cnn.ops.window import WindowSpec


def depthwise(
    x: Float[Array, "batch *spatial c"], kernel: Float[Array, "*window 1 c"], at: WindowSpec
) -> Float[Array, "batch *out c"]:
    """Convolve every channel of `x` with its own filter."""
    window_axes = tuple(range(kernel.ndim - 2))

    def f(x: Array, w: Array) -> Array:
        return _sum_of_shifted(taps(pad_with(0.0, x, at.pairs), at), w)

    def grad_x(g: Array, w: Array) -> Array:
        spread, over = spread_out(0.0, g, at)
        return _sum_of_shifted(taps(spread, over), jnp.flip(w, window_axes))

    def grad_w(x: Array, g: Array) -> Array:
        seen = taps(pad_with(0.0, x, at.pairs), at)
        return jnp.stack([_sum_of_rows(s * g) for s in seen]).reshape(kernel.shape)

    return bilinear(f, grad_x, grad_w)(x, kernel)


def _sum_of_shifted(maps: list[Array], w: Array) -> Array:
    flat = w.reshape(len(maps), *(1,) * (maps[0].ndim - 1), -1)
    return functools.reduce(jnp.add, [m * a for m, a in zip(maps, flat, strict=True)])


def _sum_of_rows(x: Float[Array, "*rows c"]) -> Float[Array, " c"]:
    """Sum over all axes but the last, halves onto halves: XLA sums far columns ten times slower."""
    rows = x.reshape(-1, x.shape[-1])
    while len(rows) > 64:
        half, odd = divmod(len(rows), 2)
        first, second, rest = jnp.split(rows, [half, 2 * half])
        rows = first + second
        if odd:
            rows = jnp.concatenate([rows, rest])
    return rows.sum(axis=0)
