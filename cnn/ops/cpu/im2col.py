"""Convolution as one product of all windows, as rows of a matrix, with the kernel ("im2col").

y[b, p, o] = Σ_(a, c) x[b, s·p + r·a − lo, c] · w[(a, c), o]

The matrix holds every input once for each window that covers it, so it must be small.
"""

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec


def im2col(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group."""
    rows = jnp.concatenate(shifted_views(pad_constant(0.0, x, spec.pairs), spec), -1)
    matrix = kernel.reshape(rows.shape[-1], -1)
    return (rows.reshape(-1, len(matrix)) @ matrix).reshape(*rows.shape[:-1], -1)
