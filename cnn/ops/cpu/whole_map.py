"""Convolution with a window as large as the map, as one product with its matrix.

On one axis, with stride s, dilation r, padding lo and inputs i:

    y[p, o] = Σ_i Σ_c x[i, c] · M[i, c, p, o],    M[i, c, p, o] = w[(i − s·p + lo) / r, c, o]

where that is a tap, else 0. The definition also multiplies all zeros that the window sees beyond
the border, at every output; here there are none.
"""

import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.cost import Nanoseconds, Shape, matrix, products
from cnn.ops.window import WindowSpec

MAX_SLICES, MAX_ENTRIES = 256, 2**24
"""The largest map, of which each output position of an axis takes a slice, and the largest matrix.
"""


def whole_map(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group."""
    entries = kernel
    for axis in range(len(spec.window)):
        entries = jnp.stack(_taps_seen(entries, spec, axis), -2)
    rows = x.reshape(len(x), -1)
    y = rows @ entries.reshape(rows.shape[-1], -1)
    return y.reshape(len(x), *spec.out, -1)


def _taps_seen(kernel: Array, spec: WindowSpec, axis: int) -> list[Array]:
    """Return, for each output position of an axis, the taps at all inputs instead of the window."""
    n, s, r, (lo, _) = (
        spec.size[axis],
        spec.strides[axis],
        spec.dilation[axis],
        spec.pairs[axis],
    )
    starts = [lo - s * p for p in range(spec.out[axis])]
    before, after = max(0, -starts[-1]), max(0, lo + n - ((spec.window[axis] - 1) * r + 1))
    ends = [(0, 0, 0)] * kernel.ndim
    ends[axis] = (before, after, r - 1)
    taps = lax.pad(kernel, jnp.zeros((), kernel.dtype), ends)
    return [lax.slice_in_dim(taps, before + at, before + at + n, axis=axis) for at in starts]


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether there are few slices and the matrix is small."""
    rows, columns = _matrix(kernel, spec)
    return sum(spec.out) <= MAX_SLICES and rows * columns <= MAX_ENTRIES


def cost(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> float:
    """Return the time to make the matrix, and for the product."""
    rows, columns = _matrix(kernel, spec)
    made = matrix(ns, rows * columns) + sum(spec.out) * ns.slice
    return made + products(ns, x[0], rows, columns)


def _matrix(kernel: Shape, spec: WindowSpec) -> tuple[int, int]:
    """Return the rows and columns of the convolution's matrix."""
    return math.prod(spec.size) * kernel[-2], math.prod(spec.out) * kernel[-1]
