"""Few channels: t neighbouring outputs at once, so that the matrix product is not so narrow.

Along the last axis, a convolution with stride 1 and c outputs is one with stride t and t · c
outputs, whose window is as wide as t windows together, v = t + k − 1:

    y[t·q + j, o] = Σ_i Σ_c x[t·q + i, c] · T[i, c, j, o],    T[i, c, j, o] = w[i − j, c, o]

T is a block of the Toeplitz matrix of w.
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.lowering.taps import pad_with, taps
from cnn.ops.window import Placement


def toeplitz(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    at: Placement,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group."""
    *_, k, c_in, c_out = kernel.shape
    t = _block(at.out[-1], c_out)
    v = t + k - 1
    # Rows of cells and channels in one: a block sees v · c_in neighbours, the next t · c_in on.
    rows = pad_with(0.0, x, at.pairs)
    rows = rows.reshape(*rows.shape[:-2], -1)
    starts = range(0, at.out[-1] * c_in, t * c_in)
    seen = jnp.stack([lax.slice_in_dim(rows, i, i + v * c_in, axis=-1) for i in starts], -2)
    size, window, strides, pairs, dilation = at
    other_axes = Placement(size[:-1], window[:-1], strides[:-1], pairs[:-1], dilation[:-1])
    seen = jnp.concatenate(taps(seen, other_axes), -1)

    def shifted(j: int) -> Array:
        ends = [(0, 0, 0)] * kernel.ndim
        ends[-3] = (j, t - 1 - j, 0)
        return lax.pad(kernel, jnp.zeros((), kernel.dtype), ends)

    matrix = jnp.stack([shifted(j) for j in range(t)], -2).reshape(-1, t * c_out)
    y = seen.reshape(-1, len(matrix)) @ matrix
    return y.reshape(len(x), *at.out, c_out)


def _block(out: int, c_out: int) -> int:
    """Return how many outputs to compute at once: a divisor near 4, near 2 for many channels."""
    best = 4 if c_out <= 8 else 2
    return min((t for t in range(1, out + 1) if out % t == 0), key=lambda t: abs(t - best))
