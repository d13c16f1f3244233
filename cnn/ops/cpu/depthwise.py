"""Depthwise convolution as a sum of shifted products, one multiplication per tap and channel.

y[b, p, c] = Σ_a x[b, s·p + r·a − lo, c] · w[a, c]
x̄[b, i, c] = Σ_a ȳ⁺[b, i + lo − r·a, c] · w[a, c]        ȳ⁺[s·p] = ȳ[p], else 0
w̄[a, c] = Σ_b Σ_p x[b, s·p + r·a − lo, c] · ȳ[b, p, c]
"""

import functools
import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.bilinear import bilinear
from cnn.ops.cpu.no_fusion import no_fusion
from cnn.ops.cpu.transpose import dilate_output
from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_view, shifted_views
from cnn.ops.window import WindowSpec

PARTS = 8
"""The most parts of a batch whose products are added element by element."""


def depthwise(
    x: Float[Array, "batch *spatial c"],
    kernel: Float[Array, "*window 1 c"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c"]:
    """Convolve each channel of `x` with its own filter."""
    window_axes = tuple(range(kernel.ndim - 2))

    def forward(x: Array, w: Array) -> Array:
        return _weighted_sum(shifted_views(pad_constant(0.0, x, spec.pairs), spec), w)

    def grad_x(g: Array, w: Array) -> Array:
        return _weighted_sum(shifted_views(*dilate_output(0.0, g, spec)), jnp.flip(w, window_axes))

    def grad_w(x: Array, g: Array) -> Array:
        padded = pad_constant(0.0, x, spec.pairs)
        taps = itertools.product(*map(range, spec.window))
        sums = [_sum_rows(_sum_parts(padded, g, spec, tap)) for tap in taps]
        return jnp.stack(sums).reshape(kernel.shape)

    return bilinear(forward, grad_x, grad_w)(x, kernel)


def _weighted_sum(views: list[Array], w: Array) -> Array:
    weights = w.reshape(len(views), *(1,) * (views[0].ndim - 1), -1)
    return functools.reduce(jnp.add, [v * a for v, a in zip(views, weights, strict=True)])


def _sum_parts(
    padded: Array, g: Array, spec: WindowSpec, tap: tuple[int, ...]
) -> Float[Array, "part *out c"]:
    """Return the products of a tap's inputs with `g`, summed over parts of the batch.

    In a call of its own, as XLA would fuse it into what follows, and compute that without vectors.
    """
    parts = max(n for n in range(1, PARTS + 1) if len(g) % n == 0)
    size = len(g) // parts

    def sum_parts(padded: Array, g: Array) -> Array:
        products = shifted_view(padded, spec, tap) * g
        starts = range(0, len(g), size)
        each = [lax.slice_in_dim(products, i, i + size) for i in starts]
        return functools.reduce(lax.add, each)

    return no_fusion(sum_parts)(padded, g)


def _sum_rows(x: Float[Array, "*rows c"]) -> Float[Array, " c"]:
    """Sum over all axes but the last, by halves: XLA's sum over long columns is 10 times slower."""
    rows = x.reshape(-1, x.shape[-1])
    while len(rows) > 64:
        half, odd = divmod(len(rows), 2)
        first, second, rest = jnp.split(rows, [half, 2 * half])
        rows = first + second
        if odd:
            rows = jnp.concatenate([rows, rest])
    return rows.sum(axis=0)
