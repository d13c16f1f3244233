"""Initial kernels: the network's own draws, of which every position has one."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations
from cnn.layers import ReLU

X = jax.random.normal(jax.random.key(0), (16, 9, 9, 12))
CONV = nn.Conv(24, (3, 3), padding="VALID", kernel_init=nn.initializers.lecun_uniform())
CHANGES: dict[str, Callable[[nn.Module], nn.Module]] = {
    "unshare": ablations.unshare,
    "tile": partial(ablations.tile, period=(2, 3)),
    "rewindow": partial(ablations.rewindow, window=(5, 2)),
    "localize": partial(ablations.localize, radius=2),
    "densify": ablations.densify,
    "group": partial(ablations.group, groups=3),
    "dilate": partial(ablations.dilate, rate=2),
    "separate": partial(ablations.separate, multiplier=8),
    "bottleneck": partial(ablations.bottleneck, channels=64),
    "bottleneck relu": partial(ablations.bottleneck, channels=64, activation=ReLU()),
    "two": lambda model: ablations.unshare(ablations.rewindow(model, (5, 5))),
}


def variance(model: nn.Module) -> float:
    """Return the mean square of the outputs at the inner positions, which see no padding."""

    @jax.jit
    def outputs(key: Any) -> Any:
        return model.init_with_output(key, X)[0][:, 1:-1, 1:-1]

    return float(np.mean([jnp.square(outputs(jax.random.key(seed))).mean() for seed in range(4)]))


@pytest.mark.parametrize("name", CHANGES)
def test_the_output_keeps_its_variance(name: str) -> None:
    assert abs(variance(CHANGES[name](CONV)) / variance(CONV) - 1) < 0.1


def test_numbers_are_those_of_the_networks_own_initializer() -> None:
    """A constant stays, in every position and, scaled by √(9 / 25), in a larger window."""
    constant = nn.Conv(2, (3, 3), kernel_init=nn.initializers.constant(2.0))
    x = X[:1, :4, :4, :3]
    unshared = ablations.unshare(constant).init(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(unshared["kernel"], jnp.full((4, 4, 3, 3, 3, 2), 2.0))
    wide = ablations.rewindow(constant, (5, 5)).init(jax.random.key(0), x)["params"]
    np.testing.assert_allclose(wide["kernel"], jnp.full((5, 5, 3, 2), 1.2))


def test_every_position_has_a_draw_of_its_own() -> None:
    """Also where the kernel is the product of several parameters; others are drawn as before."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Dense(3)(nn.WeightNorm(nn.Conv(2, (3, 3), name="conv"))(x))

    x = X[:1, :3, :3]
    made = jax.jit(ablations.unshare(Net()).init)(jax.random.key(0), x)["params"]
    kernels = made["conv"]["kernel"].reshape(9, -1)
    assert len(np.unique(kernels)) == kernels.size
    again = jax.jit(ablations.unshare(Net()).init)(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(again["conv"]["kernel"].reshape(9, -1), kernels)
    before = jax.jit(Net().init)(jax.random.key(0), x)["params"]
    np.testing.assert_array_equal(made["Dense_0"]["kernel"], before["Dense_0"]["kernel"])
