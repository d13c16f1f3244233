"""Convolution: one small kernel, the same at every position.

    y[b, p, o] = bias[o] + Σ_a Σ_c x[b, s·p + r·a − lo, c] · kernel[a, c, o]

for strides s, dilation r and padding lo; positions p and taps a have one, two or three axes. This
is the cross-correlation that deep learning calls convolution (Goodfellow, Bengio and Courville
2016, eq. 9.6); `convolve` is the one of mathematics (eq. 9.4), in which the kernel is flipped.
"""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops import cpu
from cnn.ops.checks import add_bias, check_kernel, check_map, floats
from cnn.ops.dense import dense
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
    """Cross-correlate `x` with `kernel`, in the wider of their floating-point types.

    With `groups`, the channels are cut into as many blocks, and each block of outputs sees only
    its block of inputs. `padding` and `padding_mode`: see `cnn.ops.Padding` and `PaddingMode`.
    Raises `InputError` if shapes, types or window do not fit.
    """
    x, kernel = floats(x=x, kernel=kernel)
    check_kernel(x.shape, kernel.shape, groups)
    at = window_spec(x.shape[1:-1], kernel.shape[:-2], strides, padding, dilation)
    pairs = at.pairs
    if padding_mode != "zeros":
        x, pairs = pad(x, pairs, padding_mode), ((0, 0),) * len(pairs)
    definition = partial(
        lax.conv_general_dilated,
        window_strides=at.strides,
        padding=pairs,
        rhs_dilation=at.dilation,
        dimension_numbers=channels_last(x.ndim),
        feature_group_count=groups,
    )
    at = at._replace(size=x.shape[1:-1], pairs=pairs)
    on_cpu = cpu.conv_on_cpu(definition, x, kernel, at, groups)
    y = cpu.compute(definition, on_cpu, x, kernel)
    return add_bias(y, bias)


def channels_last(ndim: int) -> tuple[str, str, str]:
    """Return the axis names of input, kernel and output with `ndim` axes, for `lax`."""
    spatial = "DHW"[5 - ndim :]
    return f"N{spatial}C", f"{spatial}IO", f"N{spatial}C"


def convolve(
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
    """Convolve in the strict sense: `conv` with the kernel flipped over its spatial axes."""
    flipped = jnp.flip(kernel, tuple(range(kernel.ndim - 2)))
    return conv(
        x,
        flipped,
        bias,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        groups=groups,
    )


def depthwise_conv(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window 1 c_out"],
    bias: Float[Array, " c_out"] | None = None,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
) -> Float[Array, "batch *out c_out"]:
    """Convolve every channel by itself: `conv` with as many groups as channels.

    Each input channel gives m = c_out / c_in adjacent output channels.
    """
    check_map(x.shape)
    if kernel.shape[-2:-1] != (1,):
        raise InputError(
            f"kernel has shape {kernel.shape} but a depthwise one is (*window, 1, c_in * m)"
        )
    return conv(
        x,
        kernel,
        bias,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        groups=x.shape[-1],
    )


def pointwise_conv(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "c_in c_out"],
    bias: Float[Array, " c_out"] | None = None,
) -> Float[Array, "batch *spatial c_out"]:
    """Mix the channels of every position alike: the 1×1 convolution, a matrix product."""
    check_map(x.shape)
    return add_bias(dense(x, kernel), bias)


def separable_conv(
    x: Float[Array, "batch *spatial c_in"],
    depthwise: Float[Array, "*window 1 c_mid"],
    pointwise: Float[Array, "c_mid c_out"],
    bias: Float[Array, " c_out"] | None = None,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
) -> Float[Array, "batch *out c_out"]:
    """Look through the window in each channel, then mix the channels (Chollet 2017).

    Equal to `conv` with the kernel `depthwise` times `pointwise`, from far fewer weights.
    """
    y = depthwise_conv(
        x,
        depthwise,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
    )
    return pointwise_conv(y, pointwise, bias)
