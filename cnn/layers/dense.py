"""Fully connected layers, and flattening."""

import math

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnn.layers.initializers import check_features, fan_in_normal
from cnn.ops import dense


class Dense(nn.Module):
    """Fully connected layer on the last axis: `(..., c_in)` to `(..., features)`."""

    features: int
    use_bias: bool = True
    scale: float = 2.0

    @nn.compact
    def __call__(self, x: Float[Array, "*batch c_in"]) -> Float[Array, "*batch c_out"]:
        check_features(self.features)
        c_in = x.shape[-1]
        kernel = self.param("kernel", fan_in_normal(self.scale, c_in), (c_in, self.features))
        y = dense(x, kernel)
        if self.use_bias:
            bias = self.param("bias", nn.initializers.zeros_init(), (self.features,))
            y = y + jnp.broadcast_to(bias, y.shape)
        return y


class Flatten(nn.Module):
    """`(batch, ...)` to `(batch, units)`."""

    def __call__(self, x: Float[Array, "*shape"]) -> Float[Array, "batch units"]:
        return x.reshape(x.shape[0], math.prod(x.shape[1:]))
