"""The network of airbench94 (Jordan 2024), which learns CIFAR-10 in few passes."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers import GELU, BatchNorm, Chain, Conv, Dense, GlobalMaxPool, MaxPool, call

Nested = tuple[tuple[tuple[tuple[float, ...], ...], ...], ...]


class Whiten(nn.Module):
    """Convolution with a kernel `(*window, c_in, c_out)` that is given and not learned.

    It is a field, in tuples: a value, like all of an architecture.
    """

    kernel: Nested

    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return ops.conv(x, jnp.asarray(self.kernel, x.dtype))


class FastShift(nn.Module):
    """x + 8 b for every channel: gradient descent moves 8 b 64 times as far as it would move b."""

    @nn.compact
    def __call__(self, x: Float[Array, "*rows c"]) -> Float[Array, "*rows c"]:
        bias = self.param("bias", nn.initializers.zeros_init(), x.shape[-1:])
        return x + jnp.broadcast_to(8 * bias, x.shape)


class Mirrored(nn.Module):
    """`scale` times the body's logits; without `train`, their mean over an image and its mirror."""

    body: nn.Module
    scale: float = 1.0

    def __call__(self, x: Float[Array, "batch *spatial c"], train: bool = False) -> Array:
        logits = call(self.body, x, train)
        if not train:
            logits = (logits + call(self.body, x[..., ::-1, :], train)) / 2
        return self.scale * logits


def whitening(
    x: Float[np.ndarray, "n height width c"], size: int = 2, epsilon: float = 5e-4
) -> Float[np.ndarray, "size size c filters"]:
    """Return filters that make what windows of `x` see uncorrelated and of mean square 1.

    The eigenvectors v of E[p pᵀ], p the values in a window, each over √(λ + ε), and their
    negatives: 2 size² c filters (Jordan 2024, section 3.2). Raises `InputError` where `x` is not
    images, or smaller than a window.
    """
    if x.ndim != 4 or min(x.shape[1:3]) < size:
        raise InputError(
            f"x has shape {x.shape} but whitening windows of {size}×{size} needs images "
            f"(n, height, width, c) of {size} positions or more"
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
    """Whitening by `kernel`, two 3×3 convolutions of each width, a linear head.

    1,973,632 parameters on 32×32×3 with 24 filters, 118 million multiply-accumulates. Other
    than in the original, kernels do not begin as the identity, normalisation learns its scale, and
    the whitening has no bias.
    """
    given = tuple(tuple(tuple(map(tuple, c_in)) for c_in in row) for row in kernel.tolist())

    def half(features: int, *pool: nn.Module) -> tuple[nn.Module, ...]:
        convolution = Conv(features, (3, 3), padding=1, use_bias=False)
        return convolution, *pool, BatchNorm(), FastShift(), GELU()

    body = [layer for c in channels for layer in (*half(c, MaxPool((2, 2))), *half(c))]
    head = (GlobalMaxPool(), Dense(num_classes, use_bias=False, scale=1.0))
    return Mirrored(Chain((Whiten(given), GELU(), *body, *head)), scale=1 / 9)
