"""Ablations of networks without a layer of `cnn.layers`: a plain Flax ResNet."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations
from cnn.ablations import lift, project
from cnn.ablations.ablated import Ablated
from cnn.ablations.change import Change
from cnn.errors import InputError
from cnn.layers import BlurPool, Chain, Conv, ConvLocal, ReLU, SeparableConv
from cnn.layers.serialization import from_spec, to_spec
from cnn.probes.equivariance import layer_functions
from cnn.train import fit
from tests.ablations.foreign import ResNet, assert_close, images
from tests.small import config

RESNET = ResNet(dropout=0.5)
X = images()
ABLATIONS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "unshare": ablations.unshare,
    "tile": partial(ablations.tile, period=2),
    "share": ablations.share,
    "tile then unshare": lambda model: ablations.unshare(ablations.tile(model, 2)),
}
COMBINED = ("share", "tile then unshare")


@pytest.fixture(scope="module")
def variables() -> Any:
    """Return variables of the network that are far from their initial values."""
    made = jax.jit(RESNET.init)(jax.random.key(0), X)
    leaves, structure = jax.tree.flatten(made)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [jnp.abs(jax.random.normal(k, v.shape)) for k, v in zip(keys, leaves, strict=True)]
    return jax.tree.map(lambda v, n: v + 0.2 * n, made, structure.unflatten(noise))


@partial(jax.jit, static_argnums=0)
def step(model: nn.Module, variables: Any) -> tuple[Any, Any]:
    """Return the logits and new statistics of training, and the gradients of a loss."""

    def loss(params: Any) -> tuple[Any, Any]:
        y, updated = model.apply(
            {**variables, "params": params},
            X,
            train=True,
            mutable=["batch_stats"],
            rngs={"dropout": jax.random.key(5)},
        )
        return jnp.square(y - 1).mean(), (y, updated)

    gradients, outputs = jax.grad(loss, has_aux=True)(variables["params"])
    return outputs, gradients


@pytest.mark.parametrize(
    "name", ["unshare", *(pytest.param(n, marks=pytest.mark.slow) for n in ("tile", *COMBINED))]
)
def test_a_lift_computes_the_same(name: str, variables: Any) -> None:
    """Outputs, statistics, and gradients, which add up over the positions that share a kernel."""
    model = ABLATIONS[name](RESNET)
    lifted = lift(variables, RESNET, model, X.shape[1:])
    expected = jax.eval_shape(model.init, jax.random.key(0), X)
    assert jax.tree.map(jnp.shape, lifted) == jax.tree.map(jnp.shape, expected)
    (outputs, gradients), (same, tied) = step(model, lifted), step(RESNET, variables)
    assert_close(outputs, same)
    summed = jax.tree.map(lambda g, t: g.sum(tuple(range(g.ndim - t.ndim))), gradients, tied)
    assert_close(summed, tied)
    assert_close(project(lifted, model, RESNET, X.shape[1:]), variables)
    inference = jax.jit(model.apply)(lifted, X)
    assert_close(inference, RESNET.apply(variables, X))


@pytest.mark.parametrize("radius", [pytest.param(None, marks=pytest.mark.slow), 2])
def test_dense_layers(radius: int | None, variables: Any) -> None:
    """From shared, tied and unshared kernels to dense ones, and back."""
    model = ablations.localize(RESNET, radius, where=["stem", "Block_0"])
    shape, y = X.shape[1:], jax.jit(RESNET.apply)(variables, X)
    sources = [RESNET, ablations.unshare(RESNET, where=["stem", "Block_0"])]
    for source in sources:
        before = lift(variables, RESNET, source, shape)
        lifted = lift(before, source, model, shape)
        assert lifted["params"]["stem"]["kernel"].shape == (8, 8, 2, 8, 8, 4)
        assert_close(jax.jit(model.apply)(lifted, X), y)
        assert_close(project(lifted, model, RESNET, shape), variables)


def test_every_position_has_a_kernel_of_its_own(variables: Any) -> None:
    model = ablations.unshare(RESNET, where="stem")
    lifted = lift(variables, RESNET, model, X.shape[1:])
    kernel = lifted["params"]["stem"]["kernel"]
    assert kernel.shape == (8, 8, 3, 3, 2, 4)
    assert lifted["params"]["Block_0"]["Conv_0"]["kernel"].shape == (3, 3, 4, 4)
    lifted["params"]["stem"]["kernel"] = kernel.at[2, 5].set(0.0)
    local = ConvLocal(4, (3, 3), padding=1)
    stem = Chain((nn.Conv(4, (3, 3)), ReLU()))
    part = {"params": {"layers_0": lifted["params"]["stem"]}}
    expected = nn.relu(local.apply({"params": lifted["params"]["stem"]}, X))
    np.testing.assert_allclose(ablations.unshare(stem).apply(part, X), expected, atol=1e-6)


def test_a_mixed_chain_is_changed_everywhere() -> None:
    chain = Chain((Conv(2, (3, 3)), ReLU(), nn.Conv(3, (3, 3), use_bias=False)))
    made = jax.eval_shape(ablations.unshare(chain).init, jax.random.key(0), X)["params"]
    assert made["layers_0"]["kernel"].shape == (6, 6, 3, 3, 2, 2)
    assert made["layers_2"]["kernel"].shape == (6, 6, 3, 3, 2, 3)


def test_layers_that_are_no_convolution_are_not_left_alone_in_silence() -> None:
    """Also inside a module: what a locally connected layer computes is no convolution."""

    class Net(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array) -> jax.Array:
            return nn.Conv(3, (3, 3))(ConvLocal(2, (3, 3), name="local")(x))

    chain = Chain((SeparableConv(2, (3, 3)), BlurPool(), nn.Conv(3, (3, 3))))
    cannot = "cannot be changed inside a network made elsewhere: change it before"
    for model, ablation, message in [
        (Net(), ablations.share, f"layer local: ConvLocal {cannot}"),
        (chain, ablations.densify, "layer layers_0: this ablation does not apply to SeparableConv"),
        (chain, partial(ablations.repool, kind="max"), f"layer layers_1: BlurPool {cannot}"),
        (chain, partial(ablations.rewindow, window=(5, 5)), f"layers_0: SeparableConv {cannot}"),
    ]:
        with pytest.raises(InputError, match=message):
            jax.eval_shape(ablation(model).init, jax.random.key(0), X)
    made = jax.eval_shape(ablations.unshare(Net(), where="Conv_0").init, jax.random.key(0), X)
    assert made["params"]["Conv_0"]["kernel"].shape == (6, 6, 3, 3, 2, 3)


@pytest.mark.slow
def test_an_ablated_network_is_a_layer_like_any_other(variables: Any) -> None:
    """In a chain, under vmap; training mode passes through."""
    model = ablations.tile(RESNET, 2)
    chain = Chain((model, ReLU()))
    made = jax.jit(chain.init)(jax.random.key(0), X)
    train = partial(chain.apply, train=True, mutable=["batch_stats"])
    y, updated = jax.jit(train)(made, X, rngs={"dropout": jax.random.key(0)})
    assert y.shape == (3, 3)
    old, new = made["batch_stats"]["layers_0"], updated["batch_stats"]["layers_0"]
    assert jax.tree.structure(old) == jax.tree.structure(new)
    assert float(jnp.abs(old["Block_0"]["BatchNorm_0"]["mean"]).max()) == 0
    assert float(jnp.abs(new["Block_0"]["BatchNorm_0"]["mean"]).min()) > 0
    both = jax.tree.map(lambda v: jnp.stack([v, 2 * v]), made["params"]["layers_0"])
    stats = made["batch_stats"]["layers_0"]

    @jax.jit
    def logits(params: Any) -> jax.Array:
        return model.apply({"params": params, "batch_stats": stats}, X)

    assert_close(jax.vmap(logits)(both)[0], logits(made["params"]["layers_0"]))


def test_parameters_of_another_type(variables: Any) -> None:
    """The network computes in the type of its parameters, like the original."""
    half = jax.tree.map(lambda v: v.astype(jnp.bfloat16), variables)
    model = ablations.unshare(RESNET)
    lifted = lift(half, RESNET, model, X.shape[1:])
    assert {v.dtype for v in jax.tree.leaves(lifted)} == {jnp.dtype(jnp.bfloat16)}
    x = X.astype(jnp.bfloat16)
    y = jax.jit(model.apply)(lifted, x)
    assert y.dtype == jnp.bfloat16
    assert_close(y.astype(float), jax.jit(RESNET.apply)(half, x).astype(float), 0.05)


@pytest.mark.slow
def test_the_outputs_of_modules_inside_are_captured(variables: Any) -> None:
    """So that probes see the maps of an ablated network."""
    model = ablations.unshare(RESNET)
    lifted = lift(variables, RESNET, model, X.shape[1:])
    for path in ("stem", "Block_1/BatchNorm_0"):
        before, after = (
            layer_functions(m, v, X.shape[1:])[path](X)
            for m, v in ((RESNET, variables), (model, lifted))
        )
        assert_close(after, before)


def test_an_ablated_network_is_a_value() -> None:
    model = ablations.tile(RESNET, 2, where=["stem", "Block_0"])
    same = ablations.tile(ResNet(dropout=0.5), period=2, where=("stem", "Block_0"))
    assert model == same
    assert hash(model) == hash(same)
    assert model != ablations.tile(RESNET, 3, where=["stem", "Block_0"])
    assert isinstance(model, Ablated)
    assert repr(model.changes) == "(tile(period=2, where=('stem', 'Block_0')),)"
    more = ablations.unshare(model, where="stem")
    assert more == Ablated(RESNET, (*model.changes, *ablations.unshare(RESNET, "stem").changes))


class Signal(nn.Module):
    """A convolution of a signal, and a linear head."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(nn.BatchNorm(not train)(nn.Conv(4, (3,), padding="VALID")(x)))
        return nn.Dense(2)(x.max(1))


@pytest.mark.slow
def test_fit_trains_it() -> None:
    """Unshared from the start, relaxed to dense in the middle, and in bfloat16."""
    model = ablations.unshare(Signal())
    relaxed = {"relax_at": 30, "relax_to": ablations.densify(Signal())}
    low = {"model": model, "precision": "bfloat16"}
    for changed in ({"model": model}, {"model": Signal(), **relaxed}, low):
        assert fit(config(**changed, steps=60, lr=0.03)).test_accuracy[0] > 0.7


def test_models_that_cannot_be_lifted(variables: Any) -> None:
    for source, target, message in [
        (RESNET, ablations.unshare(ResNet((4, 8))), "ablations of the same module, got .* ResNet"),
        (RESNET, ablations.repool(RESNET, "avg"), "MaxPool_0: cannot be lifted: layer: 'MaxPool'"),
        (ablations.unshare(RESNET), RESNET, "Conv has more bias than ConvLocal"),
    ]:
        with pytest.raises(InputError, match=message):
            lift(variables, source, target, X.shape[1:])


def test_the_layers_of_a_network_are_listed() -> None:
    names = ["stem", "MaxPool_0", "Block_0/Conv_0", "Block_0/Conv_1"]
    names += ["Block_1/Conv_0", "Block_1/Conv_1", "Block_1/conv_proj"]
    found = ablations.list_layers(RESNET, (8, 8, 2))
    assert list(found) == names
    assert found["stem"] == Conv(4, (3, 3), (1, 1), ((1, 1), (1, 1)), "zeros", (1, 1))
    tiled = ablations.list_layers(ablations.tile(RESNET, 2, where="stem"), (8, 8, 2))
    assert tiled["stem"] == ablations.tile(found["stem"], 2)
    assert tiled["Block_0/Conv_0"] == found["Block_0/Conv_0"]
    assert list(ablations.list_layers(Chain((Conv(2, (3,)), ReLU())), (8, 1))) == [
        "layers_0",
        "layers_1",
    ]


def test_a_line_of_json_is_its_record() -> None:
    """It rebuilds a network of `cnn.layers`; another one is named, and nothing is executed."""
    changes = ablations.bottleneck(ablations.tile(RESNET, [2, 2], where=[0, "stem"]), 3, ReLU())
    assert isinstance(changes, Ablated)
    model = Ablated(Chain((Conv(2, (3, 3)),)), changes.changes)
    line = json.dumps(to_spec(model))
    assert from_spec(json.loads(line)) == model
    assert to_spec(model)["changes"][0] == {
        "layer": "Change",
        "ablation": "tile",
        "arguments": [["period", [2, 2]]],
        "where": [0, "stem"],
    }
    foreign = to_spec(changes)
    assert foreign["module"]["layer"] == "tests.ablations.foreign:ResNet"
    with pytest.raises(InputError, match=r"unknown layer 'tests\.ablations\.foreign:ResNet'"):
        from_spec(json.loads(json.dumps(foreign)))
    with pytest.raises(InputError, match="unknown ablation 'tiles': did you mean 'tile'"):
        Change("tiles")
