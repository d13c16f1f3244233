"""Batch normalisation: mean 0 and variance 1 of every channel, over batch and positions."""

from __future__ import annotations

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import floats

Channels = Float[Array, " c"]


def batch_norm(
    x: Float[Array, "batch *spatial c"],
    scale: Channels,
    bias: Channels,
    *,
    epsilon: float = 1e-5,
    axis: str | None = None,
) -> tuple[Float[Array, "batch *spatial c"], Channels, Channels]:
    """Return y = γ (x − μ) / √(σ² + ε) + β, and μ and σ² of every channel.

    Ioffe & Szegedy (2015), algorithm 1. The batch is that of all devices along a mapped `axis`.
    Raises `InputError` if `scale` or `bias` has another shape than `(c,)`.
    """
    wide = jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
    over = tuple(range(x.ndim - 1))
    mean, square = wide.mean(over), (wide * wide).mean(over)
    if axis is not None:
        mean, square = lax.pmean((mean, square), axis)
    variance = jnp.maximum(square - mean**2, 0.0)
    return normalize(x, mean, variance, scale, bias, epsilon=epsilon), mean, variance


def normalize(
    x: Float[Array, "*rows c"],
    mean: Channels,
    variance: Channels,
    scale: Channels,
    bias: Channels,
    *,
    epsilon: float = 1e-5,
) -> Float[Array, "*rows c"]:
    """Return γ (x − μ) / √(σ² + ε) + β.

    As a x + b, with a = γ / √(σ² + ε) and b = β − a μ: maps are read once, and the gradient needs
    no x − μ beside x. In float32 at least, then rounded to the type of x, `scale` and `bias`.
    Raises `InputError` if `scale` or `bias` has another shape than `(c,)`.
    """
    x, scale, bias = floats(x=x, scale=scale, bias=bias)
    for name, value in (("scale", scale), ("bias", bias)):
        if value.shape != x.shape[-1:]:
            raise InputError(f"{name} has shape {value.shape} but x {x.shape} needs {x.shape[-1:]}")
    a = scale * lax.rsqrt(variance + epsilon)
    b = bias - a * mean
    over = tuple(range(x.ndim - 1))
    return (x * jnp.expand_dims(a, over) + jnp.expand_dims(b, over)).astype(x.dtype)
