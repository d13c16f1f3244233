"""Linear maps in which every output depends on every input."""

import math

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import add_bias, check_input, promote_floats
from cnn.ops.implementations import compute


def dense(
    x: Float[Array, "*batch c_in"], kernel: Float[Array, "c_in c_out"]
) -> Float[Array, "*batch c_out"]:
    """Return y_o = Σ_c x_c · kernel[c, o]."""
    x, kernel = promote_floats(x=x, kernel=kernel)
    if x.ndim == 0 or kernel.ndim != 2 or kernel.shape[0] != x.shape[-1]:
        raise InputError(
            f"kernel must have the shape (c_in, c_out), c_in the last axis of x, for x of shape "
            f"{x.shape}, got {kernel.shape}"
        )
    return compute("dense", jnp.matmul, x, kernel)


def dense_spatial(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*in_and_out c_out"],
    bias: Float[Array, "*out_or_none c_out"] | None = None,
) -> Float[Array, "batch *out c_out"]:
    """Return y_p = bias_p + Σ_i x_i · kernel[i, p]: every output position sees every input.

    The kernel is `(*in_spatial, c_in, *out_spatial, c_out)`, the bias one per channel or output.
    """
    x, kernel = promote_floats(x=x, kernel=kernel)
    check_input(x.shape)
    image = x.shape[1:]
    if kernel.ndim != 2 * len(image) or kernel.shape[: len(image)] != image:
        raise InputError(
            f"kernel must have {2 * len(image)} axes (*in_spatial, c_in, *out_spatial, c_out) for "
            f"x of shape {x.shape}, got shape {kernel.shape}"
        )
    c_in, out = math.prod(image), kernel.shape[len(image) :]
    y = dense(x.reshape(x.shape[0], c_in), kernel.reshape(c_in, -1)).reshape(x.shape[0], *out)
    return add_bias(y, bias, out[:-1])


def token_mixing(
    x: Float[Array, "batch *spatial c"],
    kernel: Float[Array, "*in_and_out"],
    bias: Float[Array, "*out"] | None = None,
) -> Float[Array, "batch *out c"]:
    """Return y_p,c = bias_p + Σ_i x_i,c · kernel[i, p]: one matrix over positions for all channels.

    The kernel is `(*in_spatial, *out_spatial)`, the bias `(*out_spatial,)`. It is `dense_spatial`
    without a mixing of channels (MLP-Mixer; Tolstikhin et al. 2021).
    """
    x, kernel = promote_floats(x=x, kernel=kernel)
    check_input(x.shape)
    batch, *size, c = x.shape
    rank = len(size)
    if kernel.ndim != 2 * rank or kernel.shape[:rank] != tuple(size):
        raise InputError(
            f"kernel must have {2 * rank} axes (*in_spatial, *out_spatial) for x of shape "
            f"{x.shape}, got shape {kernel.shape}"
        )
    out = kernel.shape[rank:]
    if bias is not None and bias.shape != out:
        raise InputError(f"bias must have shape {out}, got {bias.shape}")
    rows = jnp.swapaxes(x.reshape(batch, math.prod(size), c), 1, 2)
    y = dense(rows, kernel.reshape(math.prod(size), -1))
    if bias is not None:
        y = y + jnp.broadcast_to(bias.reshape(-1), y.shape)
    return jnp.swapaxes(y, 1, 2).reshape(batch, *out, c)
