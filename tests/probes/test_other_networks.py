"""The probes on a network without a layer of `cnn.layers`: the ResNet of Flax's examples."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ablations, probes
from cnn.geometry import describe
from tests.ablations.foreign import ResNet

SHAPE = (16, 16, 1)


@pytest.fixture(scope="module")
def network() -> tuple[ResNet, dict]:
    model = ResNet()
    return model, jax.jit(model.init)(jax.random.key(0), jnp.ones((1, *SHAPE)))


def test_equivariance_and_position_leak_of_its_maps(network: tuple[ResNet, dict]) -> None:
    """Zero padding and strides: shifts are not exact, and features tell where they are."""
    maps = probes.layer_functions(*network, SHAPE)
    assert list(maps)[:2] == ["stem", "Block_0/Conv_0"] and "Dense_0" not in maps
    x, more = jax.random.normal(jax.random.key(1), (2, 32, *SHAPE))
    stem = jax.jit(maps["stem"])
    assert stem(x).shape == (32, 16, 16, 4)
    by_one = float(probes.shift_error(stem, x, 1, margin=2))
    assert by_one < 1e-6  # away from the border it is a convolution
    assert float(probes.shift_error(stem, x, 1)) > 0.1
    last = jax.jit(maps["Block_1"])
    ones = [jnp.ones_like(x), jnp.ones_like(more)]
    leak = probes.position_leak(*(last(x) for x in ones))
    assert 0.5 < float(leak) <= 1.0


def test_the_effective_field_lies_in_the_receptive_field(network: tuple[ResNet, dict]) -> None:
    block = probes.layer_functions(*network, SHAPE)["Block_0"]
    x = jax.random.normal(jax.random.key(2), (8, *SHAPE))
    strength = np.asarray(jax.jit(lambda x: probes.effective_receptive_field(block, x))(x))
    fields = describe(network[0], SHAPE, aligned=False)
    (top, bottom), (left, right) = fields.field_of("Block_0", (4, 4))
    inside = np.zeros(SHAPE[:2], bool)
    inside[max(top, 0) : bottom + 1, max(left, 0) : right + 1] = True
    assert (strength[~inside] == 0).all()
    assert strength[[max(top, 0), bottom], 8].min() > 0


def test_learned_locality_and_sharing_of_an_unshared_stem(network: tuple[ResNet, dict]) -> None:
    model, variables = network
    local = ablations.unshare(model, where="stem")
    lifted = ablations.lift(variables, model, local, SHAPE)
    layer = ablations.list_layers(local, SHAPE)["stem"]
    kernel = lifted["params"]["stem"]["kernel"]
    assert kernel.shape == (16, 16, 3, 3, 1, 4)
    np.testing.assert_allclose(probes.learned_sharing(kernel, layer), 1, rtol=1e-5)
    shared = variables["params"]["stem"]["kernel"]
    share = float(jnp.square(shared[1, 1]).sum() / jnp.square(shared).sum())
    assert float(probes.learned_locality(kernel, layer, 0)) == pytest.approx(share, rel=1e-5)
