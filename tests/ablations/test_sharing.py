"""Sharing changes the class of a layer and keeps all its fields."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ablations
from cnn.errors import InputError
from cnn.layers import Chain, Conv, ConvLocal, ConvTiled, ReLU

CONV = Conv(3, (5,), strides=2, padding=2, padding_mode="reflect", use_bias=False, scale=0.5)


def test_only_the_class_changes() -> None:
    fields = {"strides": 2, "padding": 2, "padding_mode": "reflect", "use_bias": False}
    local = ConvLocal(3, (5,), **fields, scale=0.5)
    assert ablations.unshare(CONV) == local
    assert ablations.tile(CONV, 3) == ConvTiled(3, (5,), **fields, scale=0.5, period=3)
    assert ablations.share(local) == CONV
    model = Chain((CONV, ReLU(), CONV))
    assert ablations.share(ablations.tile(ablations.unshare(model), 2)) == model


def test_a_tied_bias_is_one_for_all_positions() -> None:
    conv = Conv(3, (2,))
    for free in (ablations.unshare(conv, bias="tied"), ablations.tile(conv, 2, bias="tied")):
        made = free.init(jax.random.key(0), jnp.zeros((1, 5, 2)))["params"]
        assert made["bias"].shape == (3,)
        bias = jnp.arange(3.0)
        only = free.apply({"params": {**made, "bias": bias}}, jnp.zeros((1, 5, 2)))
        np.testing.assert_array_equal(only, np.broadcast_to(bias, (1, 4, 3)))
    with pytest.raises(InputError, match="unknown bias 'one': choose one of tied, untied"):
        ablations.unshare(conv, bias="one")  # type: ignore[arg-type]


def test_a_period_above_the_output_size_means_a_kernel_for_each_position() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 4, 3, 2))
    local = ablations.unshare(Conv(3, (2, 2)))
    made = local.init(jax.random.key(1), x)
    tiled = ablations.tile(Conv(3, (2, 2)), 5)
    same = jax.eval_shape(tiled.init, jax.random.key(1), x)
    assert jax.tree.map(jnp.shape, same) == jax.tree.map(jnp.shape, made)
    np.testing.assert_allclose(tiled.apply(made, x), local.apply(made, x), atol=1e-6)
    half = ablations.tile(Conv(3, (2, 2)), (2, 4))
    kernel = half.init(jax.random.key(1), x)["params"]["kernel"]
    assert kernel.shape == (2, 2, 2, 2, 2, 3)
