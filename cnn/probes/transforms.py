"""Shifts, rotations and scalings of images and maps."""

import functools
import math
from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.scipy.ndimage import map_coordinates
from jaxtyping import Array, Float

from cnn.errors import InputError


def shift(
    x: Float[Array, "batch *spatial c"], by: float | Sequence[float]
) -> Float[Array, "batch *spatial c"]:
    """Shift `x` circularly by `by` positions, one number or one per spatial axis: y[p] = x[p − by].

    Integer shifts are exact. A fraction uses trigonometric interpolation: each frequency k of n
    samples is multiplied by exp(−2πi · k · by / n), and the highest of an even n kept real.
    """
    for axis, amount in enumerate(amounts(by, x.ndim - 2), 1):
        if amount.is_integer():
            x = jnp.roll(x, int(amount), axis)
            continue
        n = x.shape[axis]
        phases = jnp.exp(-2j * math.pi * amount * jnp.fft.rfftfreq(n))
        others = [d for d in range(x.ndim) if d != axis]
        spectrum = jnp.fft.rfft(x, axis=axis) * jnp.expand_dims(phases, others)
        x = jnp.fft.irfft(spectrum, n, axis).astype(x.dtype)
    return x


def amounts(by: float | Sequence[float], rank: int) -> tuple[float, ...]:
    """Return `by` as one float per spatial axis."""
    values = tuple(by) if isinstance(by, Sequence) else (by,) * rank
    if len(values) != rank:
        raise InputError(f"by must be a number, or one for each of {rank} axes, got {by!r}")
    return tuple(map(float, values))


def rotate(x: Float[Array, "batch h w c"], degrees: float) -> Float[Array, "batch h w c"]:
    """Rotate `x` about its centre, counter-clockwise with rows downwards.

    Multiples of 90 degrees are exact. Other angles use bilinear interpolation, with zeros beyond
    the border.
    """
    if x.ndim != 4:
        raise InputError(f"x must have shape (batch, height, width, c), got {x.shape}")
    if degrees % 90 == 0:
        return jnp.rot90(x, int(degrees // 90), (1, 2))
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    u, v = _from_centre(x.shape[1:-1])
    return _sample(x, [cos * u + sin * v, cos * v - sin * u])


def scale(x: Float[Array, "batch *spatial c"], factor: float) -> Float[Array, "batch *spatial c"]:
    """Scale `x` by `factor` about its centre: bilinear interpolation, zeros beyond the border."""
    if not factor > 0:
        raise InputError(f"factor must be positive, got {factor}")
    return _sample(x, [u / factor for u in _from_centre(x.shape[1:-1])])


def _from_centre(size: tuple[int, ...]) -> list[Float[Array, "*spatial"]]:
    return jnp.meshgrid(*(jnp.arange(n) - (n - 1) / 2 for n in size), indexing="ij")


def _sample(x: Array, source: list[Array]) -> Array:
    """Interpolate `x` at the points `source`, relative to its centre."""
    points = [u + (n - 1) / 2 for u, n in zip(source, x.shape[1:-1], strict=True)]
    sample = functools.partial(map_coordinates, coordinates=points, order=1)
    return jax.vmap(jax.vmap(sample, -1, -1))(x)
