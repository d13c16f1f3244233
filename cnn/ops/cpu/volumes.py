"""Convolution of volumes as a sum of convolutions of images, one for each tap of the first axis.

y[b, p] = Σ_a conv(x[b, s·p + r·a − lo], w[a])

The positions p of the first axis are images of a larger batch.
"""

import functools
import math
from collections.abc import Callable

from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.cost import Nanoseconds, Shape
from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec

MAX_TAPS = 32
"""The largest window along the first axis, which has a convolution for each tap."""


def volumes(
    x: Float[Array, "batch depth *spatial c_in"],
    kernel: Float[Array, "taps *window c_in c_out"],
    spec: WindowSpec,
    convolve: Callable[[Array, Array, WindowSpec], Array],
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group; `convolve` does over the axes behind the first."""
    of_images = _of_images(spec)
    pairs = (spec.pairs[0], *((0, 0),) * len(of_images.size))
    padded, depth = pad_constant(0.0, x, pairs), spec.out[0]
    stride, dilation = spec.strides[0], spec.dilation[0]

    def tap(a: int) -> Array:
        start = a * dilation
        images = lax.slice_in_dim(padded, start, start + (depth - 1) * stride + 1, stride, 1)
        return convolve(images.reshape(-1, *images.shape[2:]), kernel[a], of_images)

    total = functools.reduce(lax.add, map(tap, range(spec.window[0])))
    return total.reshape(len(x), depth, *total.shape[1:])


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether there are three axes, and few taps along the first one."""
    return len(spec.window) == 3 and spec.window[0] <= MAX_TAPS


def cost(
    x: Shape,
    kernel: Shape,
    spec: WindowSpec,
    ns: Nanoseconds,
    convolve: Callable[[Shape, Shape, WindowSpec, Nanoseconds], float],
) -> float:
    """Return the time to slice the input and to sum, and that of `convolve`, for each tap."""
    images = (x[0] * spec.out[0], *x[2:])
    summed = math.prod(images[:1] + spec.out[1:]) * kernel[-1]
    tap = (math.prod(images) + summed) * ns.moved
    return spec.window[0] * (tap + convolve(images, kernel[1:], _of_images(spec), ns))


def _of_images(spec: WindowSpec) -> WindowSpec:
    """Return the windows over the axes behind the first."""
    size, window, strides, pairs, dilation = spec
    return WindowSpec(size[1:], window[1:], strides[1:], pairs[1:], dilation[1:])
