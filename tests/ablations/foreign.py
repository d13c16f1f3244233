"""Networks as their users write them, without a layer of `cnn.layers`."""

from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float


class Block(nn.Module):
    """The residual block of Flax's ImageNet example."""

    features: int
    strides: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Array:
        conv = partial(nn.Conv, self.features, use_bias=False)
        norm = partial(nn.BatchNorm, use_running_average=not train, momentum=0.9)
        y = nn.relu(norm()(conv((3, 3), self.strides)(x)))
        y = norm(scale_init=nn.initializers.ones_init())(conv((3, 3))(y))
        if x.shape != y.shape:
            x = norm(name="norm_proj")(conv((1, 1), self.strides, name="conv_proj")(x))
        return nn.relu(x + y)


class ResNet(nn.Module):
    """The residual network of Flax's ImageNet example, with a biased stem and dropout."""

    widths: tuple[int, ...] = (4, 6)
    classes: int = 3
    dropout: float = 0.0

    @nn.compact
    def __call__(self, x: Float[Array, "n h w c"], train: bool = False) -> Array:
        x = nn.relu(nn.Conv(self.widths[0], (3, 3), name="stem")(x))
        x = nn.max_pool(x, (3, 3), (2, 2), padding="SAME")
        for i, width in enumerate(self.widths):
            x = Block(width, 1 if i == 0 else 2)(x, train)
        x = nn.Dropout(self.dropout, deterministic=not train)(x.mean((1, 2)))
        return nn.Dense(self.classes)(x)


def images(size: int = 8, channels: int = 2, number: int = 3) -> Array:
    """Return normal inputs."""
    return jax.random.normal(jax.random.key(7), (number, size, size, channels))


def assert_close(a: Any, b: Any, tolerance: float = 1e-5) -> None:
    """Assert that two trees are equal up to `tolerance` times the largest number of each leaf."""

    def close(p: np.ndarray, q: np.ndarray) -> None:
        np.testing.assert_allclose(p, q, atol=tolerance * max(np.abs(q).max(), 1e-3), rtol=0)

    jax.tree.map(close, jax.device_get(a), jax.device_get(b))
