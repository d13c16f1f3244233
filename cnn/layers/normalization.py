"""Normalization and dropout."""

import math
from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jax import lax
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError


class Dropout(nn.Module):
    """In training, set each unit to zero with probability `rate`, and scale up the others."""

    rate: float = 0.5

    @nn.compact
    def __call__(self, x: Float[Array, "*shape"], train: bool = False) -> Float[Array, "*shape"]:
        return nn.Dropout(self.rate)(x, deterministic=not train)


class BatchNorm(nn.Module):
    """Batch normalization (Ioffe and Szegedy 2015).

    In training it uses the mean and variance of the batch, over all devices of the mapped axis
    "data" if there is one, and updates their running averages, which it uses in inference.
    """

    momentum: float = 0.9
    epsilon: float = 1e-5

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *spatial c"], train: bool = False
    ) -> Float[Array, "batch *spatial c"]:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        mean = self.variable("batch_stats", "mean", jnp.zeros, channels)
        variance = self.variable("batch_stats", "var", jnp.ones, channels)
        if not train:
            return ops.normalize(x, mean.value, variance.value, scale, bias, epsilon=self.epsilon)
        y, *batch = ops.batch_norm(x, scale, bias, epsilon=self.epsilon, axis=_data_axis())
        if not self.is_initializing():
            for average, now in zip((mean, variance), batch, strict=True):
                average.value = self.momentum * average.value + (1 - self.momentum) * now
        return y


class GroupNorm(nn.Module):
    """Group normalization (Wu and He 2018); `groups` must divide the channels."""

    groups: int = 32
    epsilon: float = 1e-5

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *spatial c"]:
        channels = x.shape[-1:]
        scale = self.param("scale", nn.initializers.ones, channels)
        bias = self.param("bias", nn.initializers.zeros, channels)
        return ops.group_norm(x, scale, bias, groups=self.groups, epsilon=self.epsilon)


class LocalResponseNorm(nn.Module):
    """y_c = x_c / (k + α Σ_j x_j²)^β, j over the `size` channels around c, without parameters.

    Krizhevsky et al. (2012), section 3.3, with their constants. Of an even `size`, one channel more
    is before c than after it, as in PyTorch.
    """

    size: int = 5
    k: float = 2.0
    alpha: float = 1e-4
    beta: float = 0.75

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *spatial c"]:
        wide = jnp.asarray(x, jnp.promote_types(x.dtype, jnp.float32))
        line = jnp.square(wide).reshape(math.prod(x.shape[:-1]), x.shape[-1], 1)  # a 1-d signal
        mean = ops.avg_pool(line, self.size, strides=1, padding="SAME_LOWER", count_padding=True)
        divisor = self.k + self.alpha * self.size * mean.reshape(x.shape)
        # On a CPU, XLA has vectors for exp and log, and none for a power.
        return (wide * jnp.exp(-self.beta * jnp.log(divisor))).astype(x.dtype)


Norm = Literal["batch", "group", "none"]


def normalization(kind: Norm, channels: int, epsilon: float = 1e-5) -> tuple[nn.Module, ...]:
    """Return the normalization layers for `channels` maps, to be unpacked into a `Chain`.

    "group" uses as many groups as possible, at most 32, with two or more channels each.
    """
    match kind:
        case "batch":
            return (BatchNorm(epsilon=epsilon),)
        case "group":
            most = max(1, min(32, channels // 2))
            groups = next(n for n in range(most, 0, -1) if channels % n == 0)
            return (GroupNorm(groups, epsilon),)
        case "none":
            return ()
    raise InputError(f"norm must be 'batch', 'group' or 'none', got {kind!r}")


def _data_axis() -> str | None:
    try:
        return "data" if lax.axis_size("data") > 1 else None
    except NameError:
        return None
