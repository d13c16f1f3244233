"""Layers that act on each position, or know of none: dense, activations, flattening."""

from __future__ import annotations

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnn.layers.initial import normal
from cnn.ops import dense


class Dense(nn.Module):
    """Fully connected layer on the last axis: `(..., c_in)` to `(..., features)`."""

    features: int
    use_bias: bool = True
    gain: float = 2.0

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c_in"]) -> Float[Array, "*batch c_out"]:
        c_in = x.shape[-1]
        kernel = self.param("kernel", normal(self.gain, c_in), (c_in, self.features))
        y = dense(x, kernel)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        return y


class Flatten(nn.Module):
    """All axes but the first become one."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "batch units"]:
        return x.reshape(x.shape[0], -1)


class ReLU(nn.Module):
    """max(x, 0)."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return nn.relu(x)


class Tanh(nn.Module):
    """tanh(x)."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return jnp.tanh(x)


class Sigmoid(nn.Module):
    """1 / (1 + exp(-x))."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return nn.sigmoid(x)


class GELU(nn.Module):
    """x Φ(x), Φ the standard normal distribution function (Hendrycks & Gimpel 2016)."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "*shape"]:
        return nn.gelu(x, approximate=False)
