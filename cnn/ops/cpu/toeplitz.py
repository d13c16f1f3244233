"""Convolution of few channels in blocks of t neighbouring outputs, for wider matrix products.

Along the last axis, a convolution with stride 1 and c output channels equals one with stride t and
t · c output channels. Its window covers t windows, v = t + k − 1:

    y[t·q + j, o] = Σ_i Σ_c x[t·q + i, c] · T[i, c, j, o],    T[i, c, j, o] = w[i − j, c, o]

T is a block of the Toeplitz matrix of w. With a kernel for every position, each q has a block of a
band matrix:

    T[q, i, c, j, o] = w[t·q + j, i − j, c, o]
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.cost import Nanoseconds, Shape, products, windows
from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec

MAX_TAPS, MAX_COPIED = 1024, 2**26
"""The largest window, to which the slices are proportional, and the most numbers that are copied.
"""


def toeplitz(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group."""
    t, blocks = _blocking(kernel.shape, spec)
    inputs = _blocks(pad_constant(0.0, x, spec.pairs), spec, t, blocks)
    matrix = _band([kernel] * t).reshape(inputs.shape[-1], -1)
    y = inputs.reshape(-1, len(matrix)) @ matrix
    y = y.reshape(len(x), *spec.out[:-1], blocks * t, -1)
    return lax.slice_in_dim(y, 0, spec.out[-1], axis=-2)


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether the stride is 1, and slices and copied numbers are few enough."""
    unit_steps = set(spec.strides + spec.dilation) == {1}
    few = math.prod(spec.window) <= MAX_TAPS
    return unit_steps and few and math.prod(_inputs(x, kernel, spec)) <= MAX_COPIED


def cost(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> float:
    """Return the time to copy the inputs of all blocks, to make T, and for the product."""
    t, _ = _blocking(kernel, spec)
    rows, inner = _inputs(x, kernel, spec)
    last, others = spec.window[-1], math.prod(spec.window[:-1])
    chunks = -(-(t + last - 1) // t)
    copied = rows * chunks * t * others * kernel[-2]
    made = inner * t * kernel[-1] * ns.entry + (others + t + chunks) * ns.slice
    return windows(ns, copied) + made + products(ns, rows, inner, t * kernel[-1])


def _inputs(x: Shape, kernel: Shape, spec: WindowSpec) -> tuple[int, int]:
    """Return how many blocks there are, and the inputs of each."""
    t, blocks = _blocking(kernel, spec)
    inner = (t + spec.window[-1] - 1) * math.prod(spec.window[:-1]) * kernel[-2]
    return x[0] * math.prod(spec.out[:-1]) * blocks, inner


def _blocking(kernel: Shape, spec: WindowSpec) -> tuple[int, int]:
    """Return t, and the blocks of an axis."""
    t = _block_size(spec.out[-1], 4 if kernel[-1] <= 16 else 2)
    return t, -(-spec.out[-1] // t)


def local_toeplitz(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*out_and_window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group, with a kernel for every position."""
    rank, last = len(spec.out), spec.out[-1]
    t = _block_size(last, 5)
    blocks = -(-last // t)
    inputs = _blocks(pad_constant(0.0, x, spec.pairs), spec, t, blocks)
    inputs = jnp.moveaxis(inputs, 0, -2)  # positions, then examples
    missing = [(0, blocks * t - last if a == rank - 1 else 0, 0) for a in range(kernel.ndim)]
    kernel = lax.pad(kernel, jnp.zeros((), kernel.dtype), missing)
    blocked = kernel.reshape(*spec.out[:-1], blocks, t, *kernel.shape[rank:])
    matrix = _band([lax.index_in_dim(blocked, j, rank, keepdims=False) for j in range(t)])
    y = inputs @ matrix.reshape(*inputs.shape[:-2], inputs.shape[-1], -1)
    y = jnp.moveaxis(y, -2, 0).reshape(len(x), *spec.out[:-1], blocks * t, -1)
    return lax.slice_in_dim(y, 0, last, axis=-2)


def _blocks(
    padded: Array, spec: WindowSpec, t: int, blocks: int
) -> Float[Array, "batch *out inputs"]:
    """Return the inputs of each block, v positions of the last axis with their channels.

    A block starts t positions after the one before. So it consists of as many chunks of t
    positions as cover v, and these chunks are slices of one array.
    """
    v, c_in = t + spec.window[-1] - 1, padded.shape[-1]
    chunks = -(-v // t)
    positions = (blocks + chunks - 1) * t
    ends = [(0, 0, 0)] * padded.ndim
    ends[-2] = (0, positions - padded.shape[-2], 0)  # a negative number cuts off
    rows = lax.pad(padded, jnp.zeros((), padded.dtype), ends)
    rows = rows.reshape(*rows.shape[:-2], positions // t, t * c_in)
    views = [lax.slice_in_dim(rows, i, i + blocks, axis=-2) for i in range(chunks)]
    inputs = lax.slice_in_dim(jnp.concatenate(views, -1), 0, v * c_in, axis=-1)
    size, window, strides, pairs, dilation = spec
    other_axes = WindowSpec(size[:-1], window[:-1], strides[:-1], pairs[:-1], dilation[:-1])
    return jnp.concatenate(shifted_views(inputs, other_axes), -1)


def _band(kernels: list[Array]) -> Float[Array, "*positions_and_window v c_in t c_out"]:
    """Return T: kernel j of t, shifted by j positions, for each output j."""
    t = len(kernels)

    def shifted(j: int) -> Array:
        ends = [(0, 0, 0)] * kernels[j].ndim
        ends[-3] = (j, t - 1 - j, 0)
        return lax.pad(kernels[j], jnp.zeros((), kernels[j].dtype), ends)

    return jnp.stack([shifted(j) for j in range(t)], -2)


def _block_size(out: int, best: int) -> int:
    """Return t: the divisor of `out` whose ratio to `best` is nearest to 1, or `best` itself.

    A divisor needs no zeros in the last block. `best` is used if none is within a factor of 2.

    >>> [_block_size(out, best=4) for out in (10, 14, 28, 31)]
    [5, 7, 4, 4]
    """
    divisors = [t for t in range(1, min(out, 2 * best) + 1) if out % t == 0]
    t = min(divisors, key=lambda t: max(t / best, best / t))
    return t if best / 2 <= t <= 2 * best else best
