"""Convolution of many channels to few: one product for all taps, then a sum of shifted results.

    z[b, i, a, o] = Σ_c x[b, i, c] · w[a, c, o],    y[b, p, o] = Σ_a z[b, s·p + r·a − lo, a, o]

`im2col` copies the inputs of every window. Here the gradient copies the outputs that see an input.
These are fewer numbers if the output has fewer channels than the input:

    z̄[b, s·p + r·a − lo, a, o] = ȳ[b, p, o], else 0

With strides, most of z is not needed. That still pays for many channels to few.

Reference:
    Vasudevan, Anderson and Gregg 2017, "Parallel multi channel convolution using general matrix
    multiplication", where the method is called kn2row.
"""

import functools
import itertools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.cost import MAX_TAPS, Nanoseconds, Shape, products, windows
from cnn.ops.cpu.no_fusion import no_fusion
from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec

MAX_NUMBERS = 2**26
"""The most numbers of z: 256 MB in float32."""


def kn2row(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group."""
    c_in, c_out = kernel.shape[-2:]
    taps = list(itertools.product(*map(range, spec.window)))
    matrix = jnp.moveaxis(kernel.reshape(-1, c_in, c_out), 0, 1).reshape(c_in, -1)
    rows = x.reshape(math.prod(x.shape[:-1]), c_in)
    z = (rows @ matrix).reshape(*x.shape[:-1], matrix.shape[1])

    @no_fusion  # XLA would make a product for each tap, and repeat the sum wherever it is read
    def add(z: Array) -> Array:
        of_taps = lax.split(z, [c_out] * len(taps), z.ndim - 1)
        shifted = [_shift(part, spec, a) for part, a in zip(of_taps, taps, strict=True)]
        return functools.reduce(lax.add, shifted)

    return add(z)


def _shift(
    z: Float[Array, "batch *spatial c_out"], spec: WindowSpec, tap: tuple[int, ...]
) -> Float[Array, "batch *out c_out"]:
    """Return z[b, s·p + r·a − lo] for a tap a: zero outside of z."""
    axes = zip(tap, spec.dilation, spec.pairs, spec.strides, spec.out, spec.size, strict=True)
    steps = [(r * a - lo, (out - 1) * s + 1, n) for a, r, (lo, _), s, out, n in axes]
    z = pad_constant(0.0, z, tuple((-step, span + step - n) for step, span, n in steps))
    return lax.slice(z, (0,) * z.ndim, z.shape, (1, *spec.strides, 1))


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether slices and numbers of z are few enough."""
    taps = math.prod(spec.window)
    return 1 < taps <= MAX_TAPS and math.prod(x[:-1]) * taps * kernel[-1] <= MAX_NUMBERS


def cost(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> float:
    """Return the time of the product, to sum z, and to copy its gradient."""
    rows, taps, (c_in, c_out) = math.prod(x[:-1]), math.prod(spec.window), kernel[-2:]
    columns = taps * c_out
    summed = x[0] * math.prod(spec.out) * columns
    copied = windows(ns, rows * columns) + summed * ns.moved
    return products(ns, rows, c_in, columns) + copied + 2 * taps * ns.slice
