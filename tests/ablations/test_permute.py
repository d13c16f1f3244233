"""Permuted input."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ablations, data
from cnn.errors import LayerError
from cnn.layers import Chain, Flatten, Permute


def test_permuted_input() -> None:
    model = ablations.permute_input(Chain((Flatten(),)), [2, 0, 1])
    assert model == Chain((Permute((2, 0, 1)), Chain((Flatten(),))))
    x = jnp.array([[[1.0], [2.0], [3.0]]])
    np.testing.assert_array_equal(model.apply({}, x), [[3, 1, 2]])
    data_set = data.load("digits")
    order = data.permutation((8, 8), seed=1, block=4)
    moved = data.permute(data_set, order).test.x[:3]
    as_layer = Permute(tuple(order.tolist())).apply({}, jnp.asarray(data_set.test.x[:3]))
    np.testing.assert_array_equal(as_layer, moved)
    with pytest.raises(LayerError, match="layer layers_0: order must be a permutation"):
        model.init(jax.random.key(0), jnp.zeros((1, 4, 1)))
