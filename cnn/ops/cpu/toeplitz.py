"""Convolution of few channels in blocks of t neighbouring outputs, for wider matrix products.

Along the last axis, a convolution with stride 1 and c output channels equals one with stride t and
t · c output channels. Its window covers t windows, v = t + k − 1:

    y[t·q + j, o] = Σ_i Σ_c x[t·q + i, c] · T[i, c, j, o],    T[i, c, j, o] = w[i − j, c, o]

T is a block of the Toeplitz matrix of w. With a kernel for every position, each q has a block of a
band matrix:

    T[q, i, c, j, o] = w[t·q + j, i − j, c, o]
"""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec


def toeplitz(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group."""
    t = _divisor(spec.out[-1], 4 if kernel.shape[-1] <= 16 else 2)
    rows = pad_constant(0.0, x, spec.pairs)
    inputs = _blocks(rows.reshape(*rows.shape[:-2], -1), spec, t, x.shape[-1], first_axis=1)
    matrix = _band([kernel] * t).reshape(inputs.shape[-1], -1)
    y = inputs.reshape(-1, len(matrix)) @ matrix
    return y.reshape(len(x), *spec.out, -1)


def local_toeplitz(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*out_and_window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group, with a kernel for every position."""
    rank = len(spec.out)
    t = _divisor(spec.out[-1], 5)
    rows = pad_constant(0.0, x, spec.pairs)
    rows = jnp.moveaxis(rows.reshape(*rows.shape[:-2], -1), 0, -2)  # positions, then examples
    inputs = _blocks(rows, spec, t, x.shape[-1], first_axis=0)
    blocked = kernel.reshape(*spec.out[:-1], -1, t, *kernel.shape[rank:])
    matrix = _band([lax.index_in_dim(blocked, j, rank, keepdims=False) for j in range(t)])
    y = inputs @ matrix.reshape(*inputs.shape[:-2], inputs.shape[-1], -1)
    return jnp.moveaxis(y, -2, 0).reshape(len(x), *spec.out, -1)


def _blocks(rows: Array, spec: WindowSpec, t: int, c_in: int, first_axis: int) -> Array:
    """Return the inputs of each block: `(..., *out, q, inputs)`, or with batch before `inputs`.

    The last axis of `rows` holds positions and channels. A block covers v · c_in entries of it, and
    the next block starts t · c_in further.
    """
    v = t + spec.window[-1] - 1
    starts = range(0, spec.out[-1] * c_in, t * c_in)
    pieces = [lax.slice_in_dim(rows, i, i + v * c_in, axis=-1) for i in starts]
    inputs = jnp.stack(pieces, first_axis + len(spec.out) - 1)
    size, window, strides, pairs, dilation = spec
    other_axes = WindowSpec(size[:-1], window[:-1], strides[:-1], pairs[:-1], dilation[:-1])
    return jnp.concatenate(shifted_views(inputs, other_axes, first_axis), -1)


def _band(kernels: list[Array]) -> Float[Array, "*positions_and_window v c_in t c_out"]:
    """Return T: kernel j of t, shifted by j positions, for each output j."""
    t = len(kernels)

    def shifted(j: int) -> Array:
        ends = [(0, 0, 0)] * kernels[j].ndim
        ends[-3] = (j, t - 1 - j, 0)
        return lax.pad(kernels[j], jnp.zeros((), kernels[j].dtype), ends)

    return jnp.stack([shifted(j) for j in range(t)], -2)


def _divisor(out: int, best: int) -> int:
    """Return t: the divisor of `out` whose ratio to `best` is nearest to 1.

    >>> [_divisor(out, best=4) for out in (10, 14, 28)]
    [5, 7, 4]
    """
    divisors = [t for t in range(1, out + 1) if out % t == 0]
    return min(divisors, key=lambda t: max(t / best, best / t))
