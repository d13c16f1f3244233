"""Transposed convolution: the adjoint of `conv`, which is its gradient with respect to the input.

`conv` pads, then applies windows: C = W P. Its adjoint is Pᵀ Wᵀ. Wᵀ dilates the outputs by the
stride, and convolves them with the flipped kernel, with input and output channels exchanged. Pᵀ
adds the values on the padding to the inputs that were copied there, and drops those on zeros.
"""

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import add_bias, check_kernel, promote_floats
from cnn.ops.padding import PaddingMode, pad
from cnn.ops.sizes import input_size
from cnn.ops.window import Padding, Size, channels_last, dilated, per_axis, window_spec


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

    The bias is added to the result, one value per channel. `output_shape` is the spatial size of
    the result: several input sizes of a strided `conv` give the same output size, and the default
    is the smallest, `cnn.ops.input_size`.
    """
    y, kernel = promote_floats(y=y, kernel=kernel)
    rank, window = y.ndim - 2, kernel.shape[:-2]
    check_kernel((*y.shape[:-1], kernel.shape[-2] * groups), kernel.shape, groups)
    if kernel.shape[-1] != y.shape[-1]:
        raise InputError(
            f"kernel must have c_out = {y.shape[-1]} as its last axis for y of shape {y.shape}, "
            f"got shape {kernel.shape}"
        )
    if output_shape is None:
        output_shape = input_size(y.shape[1:-1], window, strides, padding, dilation)
    size = per_axis(output_shape, rank, "output_shape")
    spec = window_spec(size, window, strides, padding, dilation)
    if spec.out != y.shape[1:-1]:
        raise InputError(
            f"output_shape must be a size from which conv gives {y.shape[1:-1]}, the size of y, "
            f"got {size}, from which it gives {spec.out}"
        )
    spans = dilated(spec.window, spec.dilation)
    unused = [
        n + lo + hi - ((p - 1) * s + d)
        for n, (lo, hi), p, s, d in zip(
            size, spec.pairs, spec.out, spec.strides, spans, strict=True
        )
    ]
    padded = lax.conv_general_dilated(
        y,
        _transpose_kernel(kernel, groups),
        window_strides=(1,) * rank,
        padding=[(d - 1, d - 1 + rest) for d, rest in zip(spans, unused, strict=True)],
        lhs_dilation=spec.strides,
        rhs_dilation=spec.dilation,
        dimension_numbers=channels_last(y.ndim),
        feature_group_count=groups,
    )
    x = jax.ShapeDtypeStruct((y.shape[0], *size, padded.shape[-1]), padded.dtype)
    (summed,) = jax.linear_transpose(lambda x: pad(x, spec.pairs, padding_mode), x)(padded)
    return add_bias(summed, bias)


def _transpose_kernel(kernel: Array, groups: int) -> Float[Array, "*window c_out_per_group c_in"]:
    """Flip the window, and exchange inputs and outputs within each group."""
    *window, i, o = kernel.shape
    blocks = kernel.reshape(*window, i, groups, o // groups)
    blocks = jnp.flip(blocks, tuple(range(len(window)))).swapaxes(-1, -3)
    return blocks.reshape(*window, o // groups, groups * i)
