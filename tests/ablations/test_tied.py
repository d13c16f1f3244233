"""Weights shared by channels are lifted to a dense layer, and projected back to their mean."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ablations
from cnn.ablations import lift, project
from cnn.errors import LayerError
from cnn.layers import Chain, Conv, Dense, DenseSpatial, Flatten, ReLU, Residual, TokenMixing
from cnn.probes import learned_locality
from tests.ablations.test_lifts import check_ladder


def mixer(features: int = 4) -> Chain:
    """Return a patch stem of 2, a block that mixes positions and channels, and a head."""
    mixing = Residual(TokenMixing(features, 1))
    down = TokenMixing(features, 2, strides=2)
    head = (ReLU(), Flatten(), Dense(2))
    return Chain((Conv(features, 2, strides=2), mixing, Conv(features, 1), down, *head))


@pytest.mark.parametrize("shape", [(8, 2), (8, 4, 1)])
def test_a_mixer_is_lifted_to_dense_layers(shape: tuple[int, ...]) -> None:
    dense = ablations.densify(mixer(), where=lambda name, layer: isinstance(layer, TokenMixing))
    assert dense.layers[1] == Residual(DenseSpatial(4, 1))
    check_ladder(mixer(), shape, [dense])


def test_the_lift_and_the_projection_by_hand() -> None:
    matrix, bias = jnp.array([[1.0, 2], [3, 4]]), jnp.array([5.0, 6])
    source, target = TokenMixing(2, 1), DenseSpatial(2, 1)
    up = lift({"params": {"kernel": matrix, "bias": bias}}, source, target, (2, 2))["params"]
    for c, o in np.ndindex(2, 2):
        np.testing.assert_array_equal(up["kernel"][:, c, :, o], matrix * (c == o))
    np.testing.assert_array_equal(up["bias"], [[5, 5], [6, 6]])
    kernel = jnp.arange(16.0).reshape(2, 2, 2, 2)
    down = project({"params": {"kernel": kernel, "bias": up["bias"]}}, target, source, (2, 2))
    expected = (kernel[:, 0, :, 0] + kernel[:, 1, :, 1]) / 2
    np.testing.assert_allclose(down["params"]["kernel"], expected)
    np.testing.assert_allclose(down["params"]["bias"], bias)


def test_locality_is_measured_as_of_a_dense_layer() -> None:
    """Of 25 pairs of 5 positions 13 are at most one apart."""
    uniform = learned_locality(jnp.ones((5, 5)), TokenMixing(3, 1), 1)
    assert float(uniform) == pytest.approx(13 / 25)


def test_all_channels_are_scaled_together() -> None:
    wide = ablations.match(mixer(), mixer(7), (8, 2), by="macs").model
    assert wide.layers[0].features == wide.layers[3].features
    assert wide.layers[3].features > 4


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (DenseSpatial(4, 1), TokenMixing(4, 1), "TokenMixing has more bias than DenseSpatial"),
        (TokenMixing(4, 1), DenseSpatial(4, 1, radius=1), "radius must cover .*, got 1"),
        (TokenMixing(4, 1), Conv(4, 1), "Conv has more bias than DenseSpatial"),
    ],
)
def test_models_that_cannot_be_lifted(
    source: DenseSpatial | TokenMixing, target: DenseSpatial, message: str
) -> None:
    made = source.init(jax.random.key(0), jnp.zeros((1, 6, 4)))
    with pytest.raises(LayerError, match="cannot be lifted: " + message):
        lift(made, source, target, (6, 4))
