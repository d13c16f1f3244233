"""Linear maps in which every output sees every input."""

from __future__ import annotations

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops import cpu
from cnn.ops.checks import check_map, floats, spread_bias


def dense(
    x: Float[Array, "*batch c_in"], kernel: Float[Array, "c_in c_out"]
) -> Float[Array, "*batch c_out"]:
    """Multiply by the weights: y_o = Σ_c x_c · kernel[c, o].

    Raises `InputError` if they do not fit.
    """
    x, kernel = floats(x=x, kernel=kernel)
    if x.ndim == 0 or kernel.ndim != 2 or kernel.shape[0] != x.shape[-1]:
        raise InputError(
            f"kernel has shape {kernel.shape} but x {x.shape} needs (c_in, c_out), c_in the last "
            "axis of x"
        )
    return cpu.compute(jnp.matmul, cpu.dense_on_cpu(x, kernel), x, kernel)


def dense_spatial(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*in_and_out c_out"],
    bias: Float[Array, "*out_or_none c_out"] | None = None,
) -> Float[Array, "batch *out c_out"]:
    """Let every output position see every input position: y_p = bias_p + Σ_i x_i · kernel[i, p].

    Kernel `(*in_spatial, c_in, *out_spatial, c_out)`, bias `(c_out,)` or `(*out_spatial, c_out)`.
    Raises `InputError` if the kernel does not begin as an image of `x`.
    """
    x, kernel = floats(x=x, kernel=kernel)
    check_map(x.shape)
    image = x.shape[1:]
    if kernel.ndim != 2 * len(image) or kernel.shape[: len(image)] != image:
        raise InputError(
            f"kernel has shape {kernel.shape} but x {x.shape} needs {2 * len(image)} axes, "
            "(*in_spatial, c_in, *out_spatial, c_out)"
        )
    c_in, out = math.prod(image), kernel.shape[len(image) :]
    y = dense(x.reshape(-1, c_in), kernel.reshape(c_in, -1)).reshape(-1, *out)
    return y if bias is None else y + spread_bias(bias, y.shape[1:])[None]
