"""Pooling layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
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
