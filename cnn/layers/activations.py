"""Activation functions as layers."""

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float


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
