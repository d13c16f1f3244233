"""Ablations of networks of other libraries."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import pytest
from flax import nnx

from cnn.ablations import ablate, densify, repool, rewindow, tile, unshare
from cnn.errors import InputError, LayerError
from tests.ablations.foreign import assert_close, images


class Network(NamedTuple):
    """A network with a 3×3 and a 2×2 convolution, the second one with strides, and its input."""

    function: Callable[[Any, jax.Array], jax.Array]
    init: Callable[[jax.Array], Any]
    first: str
    """The path of the first convolution."""
    kernel: Callable[[Any], Any]
    """Returns the kernel of the first convolution."""
    x: jax.Array
    shapes: dict[str, tuple[int, ...]]
    """The shapes of the first kernel."""


HWIO = {
    "unshare": (6, 6, 3, 3, 2, 4),
    "tile": (2, 2, 3, 3, 2, 4),
    "densify": (8, 8, 2, 6, 6, 4),
    "rewindow": (5, 5, 2, 4),
}
OIHW = {
    "unshare": (6, 6, 4, 2, 3, 3),
    "tile": (2, 2, 4, 2, 3, 3),
    "densify": HWIO["densify"],
    "rewindow": (4, 2, 5, 5),
}


class NnxNet(nnx.Module):
    def __init__(self, rngs: nnx.Rngs) -> None:
        self.convs = nnx.List(
            [
                nnx.Conv(2, 4, (3, 3), padding="VALID", rngs=rngs),
                nnx.Conv(4, 3, (2, 2), strides=2, rngs=rngs),
            ]
        )
        self.head = nnx.Linear(3, 5, rngs=rngs)

    def __call__(self, x: jax.Array) -> jax.Array:
        x = nnx.max_pool(nnx.relu(self.convs[0](x)), (2, 2), (1, 1))
        return self.head(self.convs[1](x).mean((1, 2)))


def nnx_network() -> Network:
    graph, _ = nnx.split(NnxNet(nnx.Rngs(0)))
    return Network(
        lambda state, x: nnx.merge(graph, state)(x),
        lambda key: nnx.split(NnxNet(nnx.Rngs(params=key)))[1],
        "convs/0",
        lambda state: state["convs"][0]["kernel"].get_value(),
        images(),
        HWIO,
    )


def haiku_network() -> Network:
    hk = pytest.importorskip("haiku", reason="dm-haiku is not installed: install the test extra")

    def network(x: jax.Array) -> jax.Array:
        x = jax.nn.relu(hk.Conv2D(4, 3, padding="VALID", name="first")(x))
        x = hk.Conv2D(3, 2, stride=2)(hk.max_pool(x, (2, 2, 1), (1, 1, 1), "VALID"))
        return hk.Linear(5)(x.mean((1, 2)))

    net = hk.without_apply_rng(hk.transform(network))
    x = images()
    return Network(
        net.apply, lambda key: net.init(key, x), "first", lambda p: p["first"]["w"], x, HWIO
    )


def equinox_network() -> Network:
    eqx = pytest.importorskip("equinox", reason="equinox is not installed: install the test extra")

    def make(key: jax.Array) -> Any:
        keys = jax.random.split(key, 3)
        return eqx.nn.Sequential(
            [
                eqx.nn.Conv2d(2, 4, 3, key=keys[0]),
                eqx.nn.Lambda(jax.nn.relu),
                eqx.nn.MaxPool2d(2, 1),
                eqx.nn.Conv2d(4, 3, 2, 2, key=keys[1]),
                eqx.nn.Lambda(lambda x: x.mean((1, 2))),
                eqx.nn.Linear(3, 5, key=keys[2]),
            ]
        )

    static = eqx.partition(make(jax.random.key(0)), eqx.is_array)[1]
    return Network(
        lambda params, x: jax.vmap(eqx.combine(params, static))(x),
        lambda key: eqx.filter(make(key), eqx.is_array),
        "layers/0",
        lambda params: params.layers[0].weight,
        images().transpose(0, 3, 1, 2),
        OIHW,
    )


@pytest.fixture(scope="module", params=[nnx_network, haiku_network, equinox_network])
def network(request: pytest.FixtureRequest) -> Network:
    made: Network = request.param()
    return made


@pytest.mark.parametrize("change", [unshare, partial(tile, period=2), densify])
def test_a_lift_computes_the_same(change: Any, network: Network) -> None:
    init, apply, lift, project = ablate(network.function, network.init, change)
    params = network.init(jax.random.key(0))
    lifted = jax.jit(lift)(params, network.x)
    name = getattr(change, "func", change).__name__
    assert network.kernel(lifted).shape == network.shapes[name]
    assert_close(jax.jit(project)(lifted, network.x), params)
    drawn = jax.eval_shape(init, jax.random.key(1), network.x)
    assert jax.tree.map(jnp.shape, drawn) == jax.tree.map(jnp.shape, lifted)

    def loss(f: Any, params: Any) -> Any:
        return jnp.square(f(params, network.x)).sum()

    value, gradients = jax.jit(jax.value_and_grad(partial(loss, apply)))(lifted)
    same, tied = jax.value_and_grad(partial(loss, network.function))(params)
    assert_close((value, jax.tree.leaves(gradients)[-1]), (same, jax.tree.leaves(tied)[-1]))


def test_other_changes(network: Network) -> None:
    """Another window in the order of axes of the library, and another pooling."""

    def change(model: Any) -> Any:
        return repool(rewindow(model, (5, 5), where=network.first), "avg")

    init, apply, lift, _ = ablate(network.function, network.init, change)
    params = jax.jit(init)(jax.random.key(0), network.x)
    assert network.kernel(params).shape == network.shapes["rewindow"]
    assert apply(params, network.x).shape == (3, 5)
    with pytest.raises(LayerError, match=f"layer {network.first}: cannot be lifted: window must"):
        lift(network.init(jax.random.key(0)), network.x)


def test_parameters_of_another_type(network: Network) -> None:
    _, apply, lift, _ = ablate(network.function, network.init, unshare)
    params = network.init(jax.random.key(0))
    half = jax.tree.map(lambda w: w.astype(jnp.bfloat16), lift(params, network.x))
    y = apply(half, network.x.astype(jnp.bfloat16))
    assert_close(y.astype(float), network.function(params, network.x), 0.05)


def test_bad_input(network: Network) -> None:
    with pytest.raises(InputError, match="change must apply ablations of layers, such as unshare"):
        ablate(network.function, network.init, lambda model: model)
    branching = ablate(lambda params, x: x if x.sum() > 0 else -x, network.init, unshare)
    with pytest.raises(InputError, match=r"shapes or control flow depend on data: .* boolean"):
        branching.lift(network.init(jax.random.key(0)), network.x)
    _, _, lift, _ = ablate(network.function, network.init, partial(unshare, where="conv9"))
    with pytest.raises(InputError, match="unknown layer 'conv9'"):
        lift(network.init(jax.random.key(0)), network.x)
