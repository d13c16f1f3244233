"""The transposed convolution: the adjoint of `conv`, which is its backward pass.

`conv` pads, then places windows: C = W P. Its adjoint is Pᵀ Wᵀ. Wᵀ spreads the outputs apart by
the stride, and convolves them with the kernel flipped, from input to output channels turned round;
Pᵀ adds what fell on the border to the cells that it was made of, or drops it if they are zeros.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import add_bias, check_kernel, floats
from cnn.ops.conv import channels_last
from cnn.ops.padding import PaddingMode, pad
from cnn.ops.sizes import input_size
from cnn.ops.window import Padding, Size, dilated, per_axis, window_spec


def conv_transpose(
    y: Float[Array, "batch *out c_out"],
    kernel: Float[Array, "*window c_in_per_group c_out"],
    bias: Float[Array, " c_in"] | None = None,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
    groups: int = 1,
    output_shape: Size | None = None,
) -> Float[Array, "batch *spatial c_in"]:
    """Apply the adjoint of `conv` with the same arguments: ⟨conv(x), y⟩ = ⟨x, conv_transpose(y)⟩.

    The kernel is laid out as for the `conv` it belongs to, which takes c_in channels to c_out. A
    strided `conv` takes several input sizes to one output size: `output_shape` (spatial) says
    which one comes back, by default the smallest, `cnn.ops.input_size`. The bias is added after.
    Raises `InputError` as `conv` does, and if `conv` does not take `output_shape` to that of `y`.
    """
    y, kernel = floats(y=y, kernel=kernel)
    rank, window = y.ndim - 2, kernel.shape[:-2]
    check_kernel((*y.shape[:-1], kernel.shape[-2] * groups), kernel.shape, groups)
    if kernel.shape[-1] != y.shape[-1]:
        raise InputError(
            f"kernel has shape {kernel.shape} but y {y.shape} needs c_out = {y.shape[-1]} as its "
            "last axis"
        )
    if output_shape is None:
        output_shape = input_size(y.shape[1:-1], window, strides, padding, dilation)
    size = per_axis(output_shape, rank, "output_shape")
    at = window_spec(size, window, strides, padding, dilation)
    if at.out != y.shape[1:-1]:
        raise InputError(
            f"output_shape {size} does not fit: conv takes it to {at.out} but y has {y.shape[1:-1]}"
        )
    spans = dilated(at.window, at.dilation)
    unused = [
        n + lo + hi - ((p - 1) * s + d)
        for n, (lo, hi), p, s, d in zip(size, at.pairs, at.out, at.strides, spans, strict=True)
    ]
    on_padded = lax.conv_general_dilated(
        y,
        _turn_round(kernel, groups),
        window_strides=(1,) * rank,
        padding=[(d - 1, d - 1 + rest) for d, rest in zip(spans, unused, strict=True)],
        lhs_dilation=at.strides,
        rhs_dilation=at.dilation,
        dimension_numbers=channels_last(y.ndim),
        feature_group_count=groups,
    )
    x = jax.ShapeDtypeStruct((y.shape[0], *size, on_padded.shape[-1]), on_padded.dtype)
    (summed,) = jax.linear_transpose(lambda x: pad(x, at.pairs, padding_mode), x)(on_padded)
    return add_bias(summed, bias)


def _turn_round(
    kernel: Float[Array, "*window c_in_per_group c_out"], groups: int
) -> Float[Array, "*window c_out_per_group c_in"]:
    """Flip the window, and within each group let inputs and outputs change places."""
    *window, i, o = kernel.shape
    blocks = kernel.reshape(*window, i, groups, o // groups)
    blocks = jnp.flip(blocks, tuple(range(len(window)))).swapaxes(-1, -3)
    return blocks.reshape(*window, o // groups, groups * i)
