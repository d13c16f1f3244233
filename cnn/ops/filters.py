"""Fixed filters, as kernels for `depthwise_conv`.

Each function returns `(*window, 1, m)`: m filters for one input channel. For c channels, repeat
them: `depthwise_conv(x, jnp.tile(sobel(), c))` gives outputs i·m … i·m + m − 1 for channel i.
"""

import functools

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.window import per_axis


def box_blur(size: int = 3, rank: int = 2) -> Float[Array, "*window 1 1"]:
    """Return the mean of `size` positions on each of `rank` axes: 1/9 everywhere for 3×3."""
    _check(size, rank)
    return _outer_power(np.full(size, 1 / size), rank)


def binomial_blur(size: int = 3, rank: int = 2) -> Float[Array, "*window 1 1"]:
    """Return the binomial filter of `size` taps on each of `rank` axes, which sums to 1.

    The weights are row `size` − 1 of Pascal's triangle, [1 2 1] / 4 for 3 taps, and approach a
    Gaussian as `size` grows.
    """
    _check(size, rank)
    row = functools.reduce(np.convolve, [np.array([0.5, 0.5])] * (size - 1), np.ones(1))
    return _outer_power(row, rank)


def _check(size: int, rank: int) -> None:
    per_axis(size, 1, "size")
    if rank not in (1, 2, 3):
        raise InputError(f"rank must be 1, 2 or 3, got {rank}")
    most = {1: 10_000, 2: 10_000, 3: 400}[rank]
    if size > most:
        raise InputError(f"size must be at most {most} with rank {rank}, got {size}: filter twice")


def _outer_power(row: np.ndarray, rank: int) -> Array:
    kernel = functools.reduce(np.multiply.outer, [row] * rank)
    return jnp.asarray(kernel[..., None, None], jnp.float32)


def edges() -> Float[Array, "3 3 1 1"]:
    """Return a Laplacian: each position minus the mean of its eight neighbours."""
    kernel = np.full((3, 3), -1 / 8)
    kernel[1, 1] = 1
    return jnp.asarray(kernel[..., None, None], jnp.float32)


def sobel() -> Float[Array, "3 3 1 2"]:
    """Return Sobel's two filters: the slope along the first spatial axis, and along the second.

    With `conv` they are positive where values grow with the index, and give 8 times the slope of a
    ramp.
    """
    slope = np.outer([-1, 0, 1], [1, 2, 1])
    return jnp.asarray(np.stack([slope, slope.T], axis=-1)[:, :, None], jnp.float32)


def finite_difference() -> Float[Array, "2 1 1"]:
    """Return [−1, 1] for signals: `conv` gives x[p + 1] − x[p].

    For the second axis of an image, use `finite_difference()[None]`.
    """
    return jnp.asarray([-1, 1], jnp.float32)[:, None, None]
