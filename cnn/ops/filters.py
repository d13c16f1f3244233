"""Filters that people designed, as kernels for `depthwise_conv`.

Each function returns `(*window, 1, m)`: m filters for one input channel. For c channels repeat
them, `depthwise_conv(x, jnp.tile(sobel(), c))`: channel i then gives outputs i·m … i·m + m − 1.
"""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.window import per_axis


def blur(size: int = 3, rank: int = 2) -> Float[Array, "*window 1 1"]:
    """Return the binomial filter of `size` taps on each of `rank` axes; it sums to 1.

    Row `size` − 1 of Pascal's triangle, which tends to a Gaussian: [1 2 1] / 4 for 3 taps.
    """
    (size,) = per_axis(size, 1, "size")
    if rank not in (1, 2, 3):
        raise InputError(f"rank {rank} is not a number of spatial axes: give 1, 2 or 3")
    row = functools.reduce(np.convolve, [np.array([0.5, 0.5])] * (size - 1), np.ones(1))
    kernel = functools.reduce(np.multiply.outer, [row] * rank)
    return jnp.asarray(kernel[..., None, None], jnp.float32)


def edges() -> Float[Array, "3 3 1 1"]:
    """Return each cell minus the mean of its eight neighbours: a Laplacian, zero where flat."""
    kernel = np.full((3, 3), -1 / 8)
    kernel[1, 1] = 1
    return jnp.asarray(kernel[..., None, None], jnp.float32)


def sobel() -> Float[Array, "3 3 1 2"]:
    """Return Sobel's two filters: the slope along the first spatial axis, and along the second.

    For `conv`: positive where values grow with the index. Eight times the slope of a ramp.
    """
    slope = np.outer([-1, 0, 1], [1, 2, 1])
    return jnp.asarray(np.stack([slope, slope.T], axis=-1)[:, :, None], jnp.float32)


def finite_difference() -> Float[Array, "2 1 1"]:
    """Return [−1, 1], for signals: `conv` gives x[p + 1] − x[p].

    For one axis of an image, give the window a second one: `finite_difference()[None]`.
    """
    return jnp.asarray([-1, 1], jnp.float32)[:, None, None]
