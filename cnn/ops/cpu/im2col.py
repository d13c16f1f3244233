"""Convolution as one product of all windows, as rows of a matrix, with the kernel ("im2col").

y[b, p, o] = Σ_(a, c) x[b, s·p + r·a − lo, c] · w[(a, c), o]

The matrix holds every input once for each window that covers it, so it has a bound.
"""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.cpu.cost import MAX_TAPS, Nanoseconds, Shape, products, windows
from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec

MAX_NUMBERS = 2**24
"""The most numbers of the matrix: 64 MB in float32."""
STRIDED = 1.5
"""How much longer copying takes with strides, where positions are not next to each other."""


def im2col(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group."""
    rows = jnp.concatenate(shifted_views(pad_constant(0.0, x, spec.pairs), spec), -1)
    matrix = kernel.reshape(rows.shape[-1], -1)
    return (rows.reshape(-1, len(matrix)) @ matrix).reshape(*rows.shape[:-1], -1)


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether the windows have one tap, or few taps and few numbers together."""
    taps = math.prod(spec.window)
    return taps == 1 or (taps <= MAX_TAPS and _rows(x, spec) * taps * x[-1] <= MAX_NUMBERS)


def cost(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> float:
    """Return the time to copy the windows, if they have several taps, and for the product."""
    rows, taps, (c_in, c_out) = _rows(x, spec), math.prod(spec.window), kernel[-2:]
    copied = windows(ns, rows * taps * c_in) if taps > 1 else 0.0
    copied *= STRIDED if max(spec.strides) > 1 else 1
    return copied + products(ns, rows, taps * c_in, c_out) + taps * ns.slice


def _rows(x: Shape, spec: WindowSpec) -> int:
    return x[0] * math.prod(spec.out)
