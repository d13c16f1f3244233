"""Convolution of volumes as a sum of convolutions of images, one for each tap of the first axis.

y[b, p] = Σ_a conv(x[b, s·p + r·a − lo], w[a])

The positions p of the first axis are images of a larger batch.
"""

import functools
from collections.abc import Callable

from jax import lax
from jaxtyping import Array, Float

from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec


def volumes(
    x: Float[Array, "batch depth *spatial c_in"],
    kernel: Float[Array, "taps *window c_in c_out"],
    spec: WindowSpec,
    convolve: Callable[[Array, Array, WindowSpec], Array],
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group; `convolve` does over the axes behind the first."""
    of_images = WindowSpec(
        size=spec.size[1:],
        window=spec.window[1:],
        strides=spec.strides[1:],
        pairs=spec.pairs[1:],
        dilation=spec.dilation[1:],
    )
    pairs = (spec.pairs[0], *((0, 0),) * len(of_images.size))
    padded, depth = pad_constant(0.0, x, pairs), spec.out[0]
    stride, dilation = spec.strides[0], spec.dilation[0]

    def tap(a: int) -> Array:
        start = a * dilation
        images = lax.slice_in_dim(padded, start, start + (depth - 1) * stride + 1, stride, 1)
        return convolve(images.reshape(-1, *images.shape[2:]), kernel[a], of_images)

    total = functools.reduce(lax.add, map(tap, range(spec.window[0])))
    return total.reshape(len(x), depth, *total.shape[1:])
