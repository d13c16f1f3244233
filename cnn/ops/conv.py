"""Convolution: one small kernel for all positions.

    y[b, p, o] = bias[o] + Σ_a Σ_c x[b, s·p + r·a − lo, c] · kernel[a, c, o]

with strides s, dilation r, padding lo, positions p and taps a. Positions and taps have one, two or
three axes. This is the cross-correlation that deep learning calls convolution (Goodfellow, Bengio
and Courville 2016, eq. 9.6). `convolve` is the convolution of mathematics (eq. 9.4), which flips
the kernel.
"""

from typing import Unpack

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import add_bias, check_input, check_kernel, promote_floats
from cnn.ops.dense import dense
from cnn.ops.implementations import compute
from cnn.ops.lax_conv import lax_conv
from cnn.ops.options import ConvOptions, WindowOptions
from cnn.ops.padding import PaddingMode, pad
from cnn.ops.window import Padding, Size, window_spec


def conv(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in_per_group c_out"],
    bias: Float[Array, " c_out"] | None = None,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
    groups: int = 1,
) -> Float[Array, "batch *out c_out"]:
    """Return the cross-correlation of `x` with `kernel`, in the wider of their types.

    Args:
      x: `(batch, *spatial, c_in)`.
      kernel: `(*window, c_in / groups, c_out)`.
      bias: `(c_out,)`, or None.
      strides: The distance between neighbouring windows, an int or one int per spatial axis.
      padding: Where windows may be; see `cnn.ops.Padding`.
      padding_mode: The values beyond the border; see `cnn.ops.PaddingMode`.
      dilation: The distance between neighbouring taps, an int or one int per spatial axis.
      groups: The number of groups of channels. Outputs depend on inputs of their group only.
    """
    x, kernel = promote_floats(x=x, kernel=kernel)
    check_kernel(x.shape, kernel.shape, groups)
    spec = window_spec(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    if padding_mode != "zeros":
        x = pad(x, spec.pairs, padding_mode)
        spec = spec.on_padded
    y = compute("conv", lax_conv(spec, groups), x, kernel, spec=spec)
    return add_bias(y, bias)


def convolve(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in_per_group c_out"],
    bias: Float[Array, " c_out"] | None = None,
    **options: Unpack[ConvOptions],
) -> Float[Array, "batch *out c_out"]:
    """Return the convolution of mathematics: `conv` with the kernel flipped over its window."""
    return conv(x, jnp.flip(kernel, tuple(range(kernel.ndim - 2))), bias, **options)


def depthwise_conv(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window 1 c_out"],
    bias: Float[Array, " c_out"] | None = None,
    **options: Unpack[WindowOptions],
) -> Float[Array, "batch *out c_out"]:
    """Convolve each channel separately: `conv` with as many groups as input channels.

    Each input channel gives m = c_out / c_in adjacent output channels.
    """
    check_input(x.shape)
    if kernel.shape[-2:-1] != (1,):
        raise InputError(
            f"a depthwise kernel must have the shape (*window, 1, c_in * m), got {kernel.shape}"
        )
    return conv(x, kernel, bias, **options, groups=x.shape[-1])


def pointwise_conv(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "c_in c_out"],
    bias: Float[Array, " c_out"] | None = None,
) -> Float[Array, "batch *spatial c_out"]:
    """Apply the same matrix to the channels of every position: the 1×1 convolution."""
    check_input(x.shape)
    return add_bias(dense(x, kernel), bias)


def separable_conv(
    x: Float[Array, "batch *spatial c_in"],
    depthwise: Float[Array, "*window 1 c_mid"],
    pointwise: Float[Array, "c_mid c_out"],
    bias: Float[Array, " c_out"] | None = None,
    **options: Unpack[WindowOptions],
) -> Float[Array, "batch *out c_out"]:
    """Apply a depthwise, then a pointwise convolution (Chollet 2017).

    Equals `conv` with the kernel `depthwise` · `pointwise`, with far fewer weights.
    """
    return pointwise_conv(depthwise_conv(x, depthwise, **options), pointwise, bias)
