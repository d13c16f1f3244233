"""Convolution whose kernel gradient is one matrix product per row of taps.

    w̄[a, c, o] = Σ_b Σ_p x[b, s·p + r·a − lo, c] · ȳ[b, p, o]

For each tap a, this is the product of its transposed view of x with ȳ, summed over all positions of
all examples. With few channels, one product computes all taps of a row.
"""

import math

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.cpu.bilinear import bilinear
from cnn.ops.cpu.cost import MAX_TAPS, NARROW, Nanoseconds, Shape, products
from cnn.ops.lax_conv import lax_conv
from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec


def conv_with_kernel_gradient(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with `lax`, in one group; only the gradient of the kernel differs."""
    convolve = lax_conv(spec)

    def grad_x(g: Array, w: Array) -> Array:
        return jax.linear_transpose(lambda x: convolve(x, w), x)(g)[0]

    def grad_w(x: Array, g: Array) -> Array:
        views = shifted_views(pad_constant(0.0, x, spec.pairs), spec)
        together = spec.window[-1] if x.shape[-1] < 32 else 1
        summed = tuple(range(x.ndim - 1))
        products = [
            jnp.tensordot(jnp.concatenate(views[i : i + together], -1), g, (summed, summed))
            for i in range(0, len(views), together)
        ]
        return jnp.concatenate(products).reshape(kernel.shape)

    return bilinear(convolve, grad_x, grad_w)(x, kernel)


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether there are several taps, and few slices for them."""
    return 1 < math.prod(spec.window) <= MAX_TAPS


def cost(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> float:
    """Return the time of two convolutions by `lax`, and of the products for the kernel's gradient.

    The gradient by the input is a convolution over zeros between the outputs' gradients.
    """
    taps, (c_in, c_out) = math.prod(spec.window), kernel[-2:]
    covered, between = x[0] * math.prod(spec.out) * taps, math.prod(spec.strides)
    by_lax = c_in * max(c_out, NARROW) + between * c_out * max(c_in, NARROW)
    copied = (c_in + between * c_out) * ns.lax_window + (1 + between) * ns.lax_run
    both = covered * (by_lax * ns.lax_product + copied)
    return both + products(ns, covered, c_in, c_out) / 3 + taps * ns.slice
