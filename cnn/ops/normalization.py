"""Mean 0 and variance 1: of every channel over batch and positions, or of a group of channels."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import check_groups, promote_floats

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

    With a mapped `axis`, μ and σ² are those of the batch of all its devices (Ioffe and Szegedy
    2015, algorithm 1).

    σ² = E[(x − k)²] − (μ − k)² for any k (Chan, Golub and LeVeque 1983). k is here the mean of the
    first example (of each device), so that (μ − k)² is at most σ² times the number of examples,
    and the relative error of σ² at most about this number times that of a float32.
    """
    wide = jnp.asarray(x, jnp.promote_types(jnp.result_type(x), jnp.float32))
    over = tuple(range(x.ndim - 1))
    k = lax.stop_gradient(wide[:1].mean(over))
    if axis is not None:
        k = lax.pmean(k, axis)
    shifted = wide - jnp.expand_dims(k, over)
    mean, square = shifted.mean(over), (shifted * shifted).mean(over)
    if axis is not None:
        mean, square = lax.pmean((mean, square), axis)
    variance = jnp.maximum(square - mean**2, 0.0)
    mean = k + mean
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
    """Return γ (x − μ) / √(σ² + ε) + β, in the common type of `x`, `scale` and `bias`.

    It is computed as a x + b, with a = γ / √(σ² + ε) and b = β − a μ, in float32 or wider. So `x`
    is read once, and the gradient does not store x − μ.
    """
    x, scale, bias = _checked(x, scale, bias)
    a = scale * lax.rsqrt(variance + epsilon)
    b = bias - a * mean
    over = tuple(range(x.ndim - 1))
    return (x * jnp.expand_dims(a, over) + jnp.expand_dims(b, over)).astype(x.dtype)


def group_norm(
    x: Float[Array, "batch *spatial c"],
    scale: Channels,
    bias: Channels,
    *,
    groups: int,
    epsilon: float = 1e-5,
) -> Float[Array, "batch *spatial c"]:
    """Return γ (x − μ) / √(σ² + ε) + β, with μ and σ² of each example's groups of channels.

    Groups are of adjacent channels, and must divide them (Wu and He 2018, eq. 1 to 7). Means are
    taken over positions first, and then over the channels of a group: on a CPU, XLA takes three
    times as long for both at once.
    """
    x, scale, bias = _checked(x, scale, bias)
    check_groups(groups, {"channels": x.shape[-1]})
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    over, size = tuple(range(1, x.ndim - 1)), x.shape[-1] // groups

    def group_mean(x: Array) -> Float[Array, "batch *ones c"]:
        each = x.mean(over).reshape(len(x), groups, size).mean(-1)
        return jnp.expand_dims(jnp.repeat(each, size, -1), over)

    centred = wide - group_mean(wide)
    variance = group_mean(centred * centred)
    scale, bias = (jnp.expand_dims(v, tuple(range(x.ndim - 1))) for v in (scale, bias))
    return (centred * (scale * lax.rsqrt(variance + epsilon)) + bias).astype(x.dtype)


def _checked(x: Array, scale: Array, bias: Array) -> tuple[Array, Array, Array]:
    x, scale, bias = promote_floats(x=x, scale=scale, bias=bias)
    for name, value in (("scale", scale), ("bias", bias)):
        if value.shape != x.shape[-1:]:
            raise InputError(f"{name} must have shape {x.shape[-1:]}, got {value.shape}")
    return x, scale, bias
