"""Few channels: t neighbouring outputs at once, so that the matrix product is not so narrow.

Along the last axis, a convolution with stride 1 and c outputs is one with stride t and t · c
outputs, whose window is as wide as t windows together, v = t + k − 1:

    y[t·q + j, o] = Σ_i Σ_c x[t·q + i, c] · T[i, c, j, o],    T[i, c, j, o] = w[i − j, c, o]

T is a block of the Toeplitz matrix of w. With a kernel for every position it is a block of a band
matrix, another one for every q:

    T[q, i, c, j, o] = w[t·q + j, i − j, c, o]
"""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.patches import pad_with, taps
from cnn.ops.window import WindowSpec


def toeplitz(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    at: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group."""
    t = _divisor(at.out[-1], 4 if kernel.shape[-1] <= 16 else 2)
    rows = pad_with(0.0, x, at.pairs)
    seen = _blocks(rows.reshape(*rows.shape[:-2], -1), at, t, x.shape[-1], first_axis=1)
    matrix = _band([kernel] * t).reshape(seen.shape[-1], -1)
    y = seen.reshape(-1, len(matrix)) @ matrix
    return y.reshape(len(x), *at.out, -1)


def local_toeplitz(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*out_and_window c_in c_out"],
    at: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group, with a kernel for every position."""
    rank = len(at.out)
    t = _divisor(at.out[-1], 5)
    rows = pad_with(0.0, x, at.pairs)
    rows = jnp.moveaxis(rows.reshape(*rows.shape[:-2], -1), 0, -2)  # positions, then examples
    seen = _blocks(rows, at, t, x.shape[-1], first_axis=0)
    blocked = kernel.reshape(*at.out[:-1], -1, t, *kernel.shape[rank:])
    matrix = _band([lax.index_in_dim(blocked, j, rank, keepdims=False) for j in range(t)])
    y = seen @ matrix.reshape(*seen.shape[:-2], seen.shape[-1], -1)
    return jnp.moveaxis(y, -2, 0).reshape(len(x), *at.out, -1)


def _blocks(rows: Array, at: WindowSpec, t: int, c_in: int, first_axis: int) -> Array:
    """Return what each block sees: `(..., *out, q, seen)`, or the same with batch before `seen`.

    The last axis of `rows` holds cells and channels in one: a block sees v · c_in neighbours, and
    the next one those t · c_in further on.
    """
    v = t + at.window[-1] - 1
    starts = range(0, at.out[-1] * c_in, t * c_in)
    pieces = [lax.slice_in_dim(rows, i, i + v * c_in, axis=-1) for i in starts]
    seen = jnp.stack(pieces, first_axis + len(at.out) - 1)
    size, window, strides, pairs, dilation = at
    other_axes = WindowSpec(size[:-1], window[:-1], strides[:-1], pairs[:-1], dilation[:-1])
    return jnp.concatenate(taps(seen, other_axes, first_axis), -1)


def _band(kernels: list[Array]) -> Float[Array, "*positions_and_window v c_in t c_out"]:
    """Return T, in which kernel j of t stands j places down."""
    t = len(kernels)

    def shifted(j: int) -> Array:
        ends = [(0, 0, 0)] * kernels[j].ndim
        ends[-3] = (j, t - 1 - j, 0)
        return lax.pad(kernels[j], jnp.zeros((), kernels[j].dtype), ends)

    return jnp.stack([shifted(j) for j in range(t)], -2)


def _divisor(out: int, best: int) -> int:
    """Return how many outputs to compute at once: the divisor of `out` nearest in ratio.

    >>> [_divisor(out, best=4) for out in (10, 14, 28)]
    [5, 7, 4]
    """
    divisors = [t for t in range(1, out + 1) if out % t == 0]
    return min(divisors, key=lambda t: max(t / best, best / t))
