"""A convolution becomes attention that computes nearly the same."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations
from cnn.ablations import attend, lift, project, symmetrize
from cnn.errors import InputError, LayerError
from cnn.layers import BatchNorm, Chain, Conv, ConvLocal, GlobalAvgPool, PositionalAttention, ReLU
from tests.ablations.test_lifts import variables

NETWORK = Chain(
    (
        Conv(4, 3, padding=1, padding_mode="circular"),
        BatchNorm(),
        ReLU(),
        Conv(8, (3, 2), strides=2, use_bias=False),
        ReLU(),
        GlobalAvgPool(),
    )
)
SHAPE = (8, 8, 2)


def difference(strength: float) -> float:
    """Return how far a lifted network is from its convolutions, relative to the largest output."""
    target = attend(NETWORK, strength, strength)
    x = jax.random.normal(jax.random.key(0), (2, *SHAPE))
    made = variables(NETWORK, x)
    lifted = lift(made, NETWORK, target, SHAPE)
    expected = jax.eval_shape(target.init, jax.random.key(0), x)
    assert jax.tree.map(jnp.shape, lifted) == jax.tree.map(jnp.shape, expected)
    y, near = NETWORK.apply(made, x), target.apply(lifted, x)
    return float(jnp.abs(near - y).max() / jnp.abs(y).max())


def test_only_the_class_changes() -> None:
    first = PositionalAttention(4, 3, padding=1, padding_mode="circular", locality=2.0)
    assert attend(NETWORK, 2.0, where=0).layers[:4] == (first, *NETWORK.layers[1:4])
    assert attend(NETWORK).layers[3].use_bias is False


def test_a_lift_is_near_and_nearer_with_strength() -> None:
    """The error falls as e^−strength, and is below 1e-4 at the default, 12."""
    errors = {strength: difference(strength) for strength in (2.0, 4.0, 8.0, 12.0)}
    assert errors[12.0] < 1e-4
    assert errors[2.0] > 0.02
    for weak, strong in [(2.0, 4.0), (4.0, 8.0), (8.0, 12.0)]:
        ratio = errors[strong] / errors[weak]
        assert ratio == pytest.approx(np.exp(weak - strong), rel=0.6)


def test_from_p4_to_attention() -> None:
    model = Chain((Conv(4, 3, padding=1), ReLU(), Conv(4, 3)))
    source, target = symmetrize(model, "p4"), attend(model)
    x = jax.random.normal(jax.random.key(0), (2, 7, 7, 1))
    made = variables(source, x)
    y, near = source.apply(made, x), target.apply(lift(made, source, target, (7, 7, 1)), x)
    np.testing.assert_allclose(near, y, atol=1e-4 * float(jnp.abs(y).max()))


def test_a_network_made_elsewhere() -> None:
    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            y: jax.Array = nn.Conv(4, (3, 3), name="conv")(x)
            return nn.relu(y).mean((1, 2))

    x = jax.random.normal(jax.random.key(0), (2, 6, 6, 2))
    net = attend(Net())
    made = net.init(jax.random.key(0), x)
    weights = made["params"]["conv"]["kernel"]
    assert set(weights) == {"kernel", "query", "offsets", "strengths", "gates"}
    plain = {"params": {"conv": {**made["params"]["conv"], "kernel": weights["kernel"]}}}
    y = Net().apply(plain, x)
    np.testing.assert_allclose(net.apply(made, x), y, atol=1e-4 * float(jnp.abs(y).max()))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (ConvLocal(4, 3), "does not apply to ConvLocal: only a Conv .* `share` it first"),
        (Conv(4, 3, groups=2), "groups must be 1, got 2: `group` by 1 first"),
    ],
)
def test_what_cannot_attend(model: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message):
        attend(model)


def test_what_cannot_be_lifted_or_projected() -> None:
    conv, attention = Chain((Conv(2, 3),)), Chain((PositionalAttention(2, 3),))
    made = attention.init(jax.random.key(0), jnp.zeros((1, 5, 1)))
    with pytest.raises(LayerError, match="'Conv' is not 'PositionalAttention'"):
        project(made, attention, conv, (5, 1))
    local = ablations.unshare(conv)
    made = local.init(jax.random.key(0), jnp.zeros((1, 5, 1)))
    with pytest.raises(LayerError, match="cannot be lifted: Conv has more bias than ConvLocal"):
        lift(made, local, attention, (5, 1))
    wide = Chain((PositionalAttention(2, 5),))
    with pytest.raises(LayerError, match="window must be the same, got 3 and 5"):
        lift(conv.init(jax.random.key(0), jnp.zeros((1, 9, 1))), conv, wide, (9, 1))
