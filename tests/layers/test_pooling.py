"""Pooling layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import layers


@pytest.mark.parametrize(
    "layer",
    [
        layers.MaxPool(2),
        layers.AvgPool(2),
        layers.AdaptiveAvgPool(2),
        layers.AdaptiveMaxPool(2),
        layers.BlurPool(),
        layers.Maxout(3),
        layers.GlobalAvgPool(),
        layers.GlobalMaxPool(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_pooling_has_no_parameters(layer: nn.Module) -> None:
    assert layer.init(jax.random.key(0), jnp.ones((2, 8, 3))) == {}


def test_pooling_layers_are_the_operations() -> None:
    x = jnp.arange(12.0).reshape(1, 6, 2)

    def pooled(layer: nn.Module) -> list[float]:
        return np.asarray(layer.apply({}, x))[0, :, 0].tolist()

    # Bins of PyTorch for 6 → 4: [0, 2), [1, 3), [3, 5), [4, 6)
    assert pooled(layers.AdaptiveAvgPool(4)) == [1.0, 3.0, 7.0, 9.0]
    assert pooled(layers.AdaptiveMaxPool(4)) == [2.0, 4.0, 8.0, 10.0]
    assert pooled(layers.Maxout(2)) == [1.0, 3.0, 5.0, 7.0, 9.0, 11.0]
    # [1, 2, 1] / 4 at positions 0, 2, 4, mirrored at the border: (2 + 0 + 2) / 4, then x itself
    assert pooled(layers.BlurPool()) == [1.0, 4.0, 8.0]
