"""The network of airbench94 (Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU", 2024)."""

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers import GELU, BatchNorm, Chain, Conv, Dense, GlobalMaxPool, MaxPool, apply_layer


class Whiten(nn.Module):
    """Convolution with a fixed kernel `(*window, c_in, c_out)`, a field of nested tuples."""

    kernel: tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]

    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return ops.conv(x, jnp.asarray(self.kernel, x.dtype))


class ScaledBias(nn.Module):
    """x + 8 b: gradient descent changes 8 b 64 times as much as a bias b."""

    @nn.compact
    def __call__(self, x: Float[Array, "*rows c"]) -> Float[Array, "*rows c"]:
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        return x + jnp.broadcast_to(8 * bias, x.shape)


class Mirrored(nn.Module):
    """`scale` times the logits of `body`; in inference, their mean over an image and its mirror."""

    body: nn.Module
    scale: float = 1.0

    def __call__(self, x: Float[Array, "batch *spatial c"], train: bool = False) -> Array:
        logits = apply_layer(self.body, x, train)
        if not train:
            logits = (logits + apply_layer(self.body, x[..., ::-1, :], train)) / 2
        return self.scale * logits


def whitening(
    x: Float[np.ndarray, "n height width c"], size: int = 2, epsilon: float = 5e-4
) -> Float[np.ndarray, "size size c filters"]:
    """Return filters that whiten the windows of `x`: outputs are uncorrelated, of mean square 1.

    v / √(λ + ε) for the eigenvectors v of E[p pᵀ], with p the values in a window, and their
    negatives: 2 · size² · c filters (Jordan 2024, section 3.2).
    """
    if x.ndim != 4 or min(x.shape[1:3]) < size:
        raise InputError(
            f"x must be images (n, height, width, c) of at least {size}×{size}, got shape {x.shape}"
        )
    windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(1, 2))
    p = np.moveaxis(windows, 3, -1).reshape(-1, size * size * x.shape[-1])
    values, vectors = np.linalg.eigh(p.T @ p / len(p))
    filters = (vectors / np.sqrt(values + epsilon)).reshape(size, size, x.shape[-1], -1)
    return np.concatenate([filters, -filters], axis=-1)


def airbench(
    kernel: Float[np.ndarray, "*window c filters"],
    num_classes: int = 10,
    channels: tuple[int, ...] = (64, 256, 256),
) -> Mirrored:
    """Return whitening by `kernel`, two 3×3 convolutions for each of `channels`, and a linear head.

    For 32×32×3; with 24 filters, 1,973,632 parameters and 118 million multiply-accumulates. Unlike
    the original, kernels are not initialized to the identity, normalization learns a scale, and
    the whitening has no bias.
    """
    values = tuple(tuple(tuple(map(tuple, c_in)) for c_in in row) for row in kernel.tolist())

    def unit(features: int, *pool: nn.Module) -> tuple[nn.Module, ...]:
        conv = Conv(features, (3, 3), padding=1, use_bias=False)
        return conv, *pool, BatchNorm(), ScaledBias(), GELU()

    body = [layer for c in channels for layer in (*unit(c, MaxPool((2, 2))), *unit(c))]
    head = (GlobalMaxPool(), Dense(num_classes, use_bias=False, scale=1.0))
    return Mirrored(Chain((Whiten(values), GELU(), *body, *head)), scale=1 / 9)
