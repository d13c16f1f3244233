"""Layers made of layers."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ops
from cnn.errors import InputError
from cnn.layers import Chain, Concat, Conv, Dropout, Flatten, MaxPool, ReLU, Residual

LAYER = Conv(3, (1,))


@pytest.mark.parametrize(
    "twice",
    [
        Chain((LAYER, LAYER)),
        Concat((LAYER, LAYER)),
        Residual(LAYER, LAYER),
        Concat((Chain((LAYER,)), Chain((LAYER,)))),
        Chain((Residual(LAYER),) * 2),
    ],
    ids=["chain", "branches", "residual", "nested branches", "nested residual"],
)
def test_the_same_value_twice_is_two_layers(twice: nn.Module) -> None:
    params = twice.init(jax.random.key(0), jnp.ones((1, 1, 3)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2 * (3 * 3 + 3)
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3]
    assert not np.array_equal(kernels[0], kernels[1])


def test_chain_takes_any_linen_module_and_passes_train_on() -> None:
    model = Chain((nn.Dense(8), nn.LayerNorm(), ReLU(), Dropout(0.5)))
    x = jnp.ones((4, 3))
    made = model.init(jax.random.key(0), x)
    still = model.apply(made, x)
    np.testing.assert_array_equal(still, model.apply(made, x))
    dropped = model.apply(made, x, train=True, rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(dropped) != 0
    np.testing.assert_allclose(dropped[kept], 2 * still[kept], rtol=1e-6)
    assert 0 < kept.sum() < np.count_nonzero(still)


def test_residual_and_concat() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    y, made = Residual(Conv(3, 3, padding=1)).init_with_output(jax.random.key(1), x)
    np.testing.assert_allclose(
        y, x + ops.conv(x, made["params"]["body"]["kernel"], padding=1), rtol=1e-6
    )
    y, _ = Concat((Conv(3, 1), MaxPool(1))).init_with_output(jax.random.key(1), x)
    np.testing.assert_array_equal(y[..., 3:], x)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Residual(Conv(4, 1)), r"same output shape, got \(2, 8, 4\) and \(2, 8, 3\)"),
        (Concat((Conv(1, 1), Conv(1, 3))), r"branches of Concat must have the same output size"),
        (Chain((Flatten(), Conv(4, 3))), r"^layer layers_1: the input of Conv must have the shape"),
    ],
)
def test_an_invalid_field_raises_one_line(layer: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        layer.init(jax.random.key(0), jnp.zeros((2, 8, 3)))
    assert "\n" not in str(error.value)
