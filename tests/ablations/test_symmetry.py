"""Convolutions get a symmetry and lose it; weights move along the ladder p4m, p4, conv, dense."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations, models, ops
from cnn.ablations import desymmetrize, lift, project, symmetrize
from cnn.errors import InputError, LayerError
from cnn.geometry import describe
from cnn.layers import (
    BatchNorm,
    BatchNormGroup,
    Chain,
    Concat,
    Conv,
    ConvGroup,
    ConvLocal,
    Dense,
    GlobalAvgPool,
    GroupNorm,
    GroupPool,
    LocalResponseNorm,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv,
)
from tests.ablations.test_lifts import assert_close, assert_same_function, check_ladder, variables
from tests.ops.turns import MATRICES, turn

BLOCK = Residual(Chain((Conv(16, (3, 3), padding=1), BatchNorm(), ReLU(), Conv(16, 3, padding=1))))
BRANCHES = Concat((Conv(8, 1), Chain((Conv(16, 3, padding=1, groups=2), ReLU()))))
NETWORK = Chain(
    (
        Conv(16, 3, padding=1, use_bias=False),
        BatchNorm(epsilon=1e-3),
        ReLU(),
        MaxPool(3, strides=2, padding=1),
        BLOCK,
        BRANCHES,
        GroupPool("p4m"),
        GlobalAvgPool(),
        BatchNorm(),
        Dense(3),
    )
)
SHAPE = (9, 9, 2)


def test_convolutions_and_what_is_between_them_get_the_symmetry() -> None:
    model = symmetrize(NETWORK, "p4")
    conv, norm, _, _, block, branches, *head = model.layers
    assert conv == ConvGroup(4, 3, padding=1, use_bias=False, group="p4", lifting=True)
    assert norm == BatchNormGroup(epsilon=1e-3, group="p4")
    body = ConvGroup(4, 3, padding=1, group="p4")
    inner = (body.clone(window=(3, 3)), BatchNormGroup(), ReLU(), body)
    assert block == Residual(Chain(inner))
    assert branches.branches[0] == ConvGroup(2, 1, group="p4")
    assert branches.branches[1].layers[0] == body.clone(groups=2)
    assert tuple(head) == NETWORK.layers[6:]
    assert desymmetrize(model) == NETWORK
    assert symmetrize(symmetrize(NETWORK, "p4m"), "p4") == model


@pytest.mark.parametrize("group", ["p4", "p4m"])
def test_outputs_and_multiplications_stay_and_weights_are_shared(group: ops.Group) -> None:
    before, after = describe(NETWORK, SHAPE), describe(symmetrize(NETWORK, group), SHAPE)
    assert [layer.shape for layer in before.layers] == [layer.shape for layer in after.layers]
    assert [layer.field for layer in before.layers] == [layer.field for layer in after.layers]
    assert before.macs == after.macs
    assert before.layers[0].params == after.layers[0].params * len(MATRICES[group])


@pytest.mark.parametrize(
    "t", [5, *(pytest.param(t, marks=pytest.mark.slow) for t in (1, 2, 3, 4, 6, 7))]
)
def test_a_symmetrized_network_is_invariant(t: int) -> None:
    model = symmetrize(NETWORK, "p4m")
    x = np.random.default_rng(0).normal(size=(2, *SHAPE)).astype(np.float32)
    made = variables(model, x)
    y = model.apply(made, x)
    turned = model.apply(made, turn(x, "p4m", t, features=False))
    np.testing.assert_allclose(turned, y, atol=1e-6 * float(jnp.abs(y).max()))
    plain = variables(NETWORK, x)
    other = NETWORK.apply(plain, turn(x, "p4m", t, features=False))
    assert float(jnp.abs(other - NETWORK.apply(plain, x)).max()) > 0.01


@pytest.mark.slow
def test_from_p4m_to_p4_and_to_locally_connected() -> None:
    """With branches, groups and normalization."""
    rungs = [symmetrize(NETWORK, "p4"), ablations.unshare(NETWORK)]
    check_ladder(symmetrize(NETWORK, "p4m"), SHAPE, rungs)


@pytest.mark.slow
def test_the_whole_ladder_of_a_network() -> None:
    """p4m → p4 → conv → tiled → local → dense."""
    rungs: list[nn.Module] = [symmetrize(NETWORK, "p4"), NETWORK, ablations.tile(NETWORK, 2)]
    rungs += [ablations.unshare(NETWORK), ablations.densify(NETWORK)]
    check_ladder(symmetrize(NETWORK, "p4m"), SHAPE, rungs)


def test_the_ladder_of_signals() -> None:
    model = Chain((Conv(4, 3, padding=1), BatchNorm(), ReLU(), Conv(6, 2, groups=1), ReLU()))
    rungs = [model, ablations.unshare(model), ablations.localize(model, 2)]
    check_ladder(symmetrize(model, "flip"), (8, 3), rungs)


def test_running_statistics_are_lifted_and_projected() -> None:
    model = Chain((Conv(8, 3), BatchNorm()))
    shared = symmetrize(model, "p4")
    made = shared.init(jax.random.key(0), jnp.zeros((1, 5, 5, 1)))
    made["batch_stats"]["layers_1"]["mean"] = jnp.array([1.0, 2.0])
    lifted = lift(made, shared, model, (5, 5, 1))
    mean = lifted["batch_stats"]["layers_1"]["mean"]
    np.testing.assert_array_equal(mean, [1, 1, 1, 1, 2, 2, 2, 2])
    lifted["batch_stats"]["layers_1"]["mean"] = jnp.array([1.0, 2, 3, 4, 0, 0, 4, 4])
    back = project(lifted, model, shared, (5, 5, 1))
    np.testing.assert_allclose(back["batch_stats"]["layers_1"]["mean"], [2.5, 2])


def test_projection_is_the_mean_over_the_group_by_hand() -> None:
    """Two taps and two channels: the second is the mirror image of the first."""
    conv = {"kernel": jnp.array([[1.0, 20], [3, 40]]).reshape(2, 1, 2), "bias": jnp.array([1.0, 2])}
    plain, lifting = Conv(2, 2), ConvGroup(1, 2, group="flip", lifting=True)
    down = project({"params": conv}, plain, lifting, (4, 1))["params"]
    np.testing.assert_allclose(down["kernel"].ravel(), [(1 + 40) / 2, (3 + 20) / 2])
    np.testing.assert_allclose(down["bias"], [1.5])
    # From features, w[a, s, r]: the mean of w[a, s, 0] and w[−a, s + 1, 1].
    kernel = jnp.arange(8.0).reshape(2, 2, 2)
    group = ConvGroup(1, 2, group="flip", use_bias=False)
    down = project({"params": {"kernel": kernel}}, Conv(2, 2, use_bias=False), group, (4, 2))
    expected = [[(0 + 7) / 2, (2 + 5) / 2], [(4 + 3) / 2, (6 + 1) / 2]]
    np.testing.assert_allclose(down["params"]["kernel"].reshape(2, 2), expected)


@pytest.mark.parametrize("free", ["p4", "conv", "local", "dense"])
def test_projection_is_orthogonal(free: str) -> None:
    """What a projection leaves is orthogonal to every lift, and it is not zero."""
    shared = ConvGroup(1, 3, padding=1, use_bias=False, group="p4m")
    conv = desymmetrize(shared)
    target = {
        "p4": symmetrize(conv, "p4").clone(lifting=False),
        "conv": conv,
        "local": ablations.unshare(conv),
        "dense": ablations.densify(conv),
    }[free]
    x = jnp.zeros((1, 4, 4, 8))
    random = target.init(jax.random.key(0), x)
    nearest = lift(project(random, target, shared, x.shape[1:]), shared, target, x.shape[1:])
    rest = random["params"]["kernel"] - nearest["params"]["kernel"]
    other = lift(shared.init(jax.random.key(1), x), shared, target, x.shape[1:])["params"]["kernel"]
    assert abs(float((rest * other).sum())) < 1e-4 * float(jnp.linalg.norm(rest))
    assert float(jnp.abs(rest).max()) > 0.1


def test_where_selects_layers_and_the_next_one_lifts() -> None:
    model = Chain((Conv(8, 3), ReLU(), Conv(8, 3), BatchNorm(), Conv(8, 3), BatchNorm()))
    late = symmetrize(model, "p4", where=(1, 2))
    assert late.layers[0] == model.layers[0]
    assert (late.layers[2].lifting, late.layers[4].lifting) == (True, False)
    early = symmetrize(model, "p4m", where=0)
    assert early.layers[0] == ConvGroup(1, 3, group="p4m", lifting=True)
    assert early.layers[2:] == model.layers[2:]
    some = desymmetrize(symmetrize(model, "p4"), where=("layers_4", "layers_5"))
    assert [type(layer) for layer in some.layers[3:]] == [BatchNormGroup, Conv, BatchNorm]
    x = jax.random.normal(jax.random.key(0), (2, 9, 9, 1))
    source = symmetrize(model, "p4")
    made = variables(source, x)
    assert_same_function(source, made, some, lift(made, source, some, (9, 9, 1)), x)
    mixed = symmetrize(symmetrize(model, "p4m"), "p4", where=2)
    assert [mixed.layers[i].group for i in (0, 2, 4)] == ["p4m", "p4m", "p4"]


def test_symmetry_composes_with_other_ablations() -> None:
    model = Chain((Conv(8, 3, padding=1), ReLU(), Conv(8, 3), GlobalAvgPool(), Dense(2)))
    local = ablations.unshare(desymmetrize(symmetrize(model, "p4")))
    assert local == ablations.unshare(model)
    assert ablations.share(local) == model
    shared = symmetrize(model, "p4")
    large = ablations.repad(ablations.rewindow(shared, (5, 5)), mode="circular")
    assert large == symmetrize(
        ablations.repad(ablations.rewindow(model, (5, 5)), mode="circular"), "p4"
    )
    wide = ablations.match(symmetrize(model, "p4"), model, (9, 9, 1))
    assert abs(wide.cost / wide.target - 1) < 0.1
    assert wide.model.layers[2].features > 3


@pytest.mark.slow
def test_a_network_of_the_project_keeps_its_function() -> None:
    model = models.small_vgg(channels=(8, 8), hidden=8, norm="batch")
    x = jax.random.normal(jax.random.key(1), (2, 8, 8, 3))
    shared = symmetrize(model, "p4")
    made = variables(shared, x)
    lifted = lift(made, shared, model, (8, 8, 3))
    assert_same_function(shared, made, model, lifted, x)
    assert_close(project(lifted, model, shared, (8, 8, 3)), made)


@pytest.mark.parametrize(
    "ablation",
    [
        ablations.unshare,
        lambda model: ablations.tile(model, 2),
        ablations.densify,
        ablations.separate,
        ablations.factorize,
        lambda model: ablations.bottleneck(model, 4),
    ],
)
def test_an_ablation_that_needs_a_plain_convolution_says_so(ablation: Any) -> None:
    with pytest.raises(LayerError, match=r"not apply to ConvGroup: .* `desymmetrize` it first"):
        ablation(Chain((ConvGroup(2, (5, 5), lifting=True),)))


class Foreign(nn.Module):
    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        y: jax.Array = nn.Conv(8, (3, 3))(x)
        return y


TWO = Chain((Conv(8, 3), Residual(Conv(8, 3, padding=1))))


@pytest.mark.parametrize(
    ("model", "arguments", "message"),
    [
        (Conv(6, 3), {}, "features must be a multiple of 4, .* 'p4', got 6"),
        (
            Chain((Conv(8, 3, groups=4),)),
            {},
            "layers_0: groups must divide the 2 .* got 4: `group`",
        ),
        (ConvLocal(8, 3), {}, "does not apply to ConvLocal: only a Conv .* `share` it first"),
        (SeparableConv(8, 3), {}, "does not apply to SeparableConv"),
        (Chain((Conv(8, 3), GroupNorm(2))), {}, "layers_1: GroupNorm breaks the symmetry 'p4'"),
        (Chain((Conv(8, 3), LocalResponseNorm())), {}, "layers_1: LocalResponseNorm breaks"),
        (TWO, {"where": "layers_1"}, "layers_1: its branches .* got 'p4' and none: let where"),
        (TWO, {"where": 0}, "layers_1: its branches .* got none and 'p4'"),
        (
            Concat((Conv(8, 1), Conv(8, 1))),
            {"where": 1},
            "its branches must have the same symmetry, got none and 'p4'",
        ),
        (
            Chain((ConvGroup(2, 3, lifting=True), Conv(8, 3))),
            {"group": "p4m", "where": 1},
            "layers_1: its input must have the symmetry 'p4m', got 'p4'",
        ),
        (TWO, {"group": "p6"}, "unknown group 'p6': did you mean 'p4'"),
        (Chain((ReLU(),)), {}, "the model has no layer that this ablation changes"),
        (Foreign(), {}, "symmetrize needs a model of cnn.layers alone, got Foreign"),
    ],
)
def test_what_cannot_be_symmetrized(
    model: nn.Module, arguments: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message) as error:
        symmetrize(model, **{"group": "p4"} | arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (Conv(8, 3), ConvGroup(2, 3), "ConvGroup has more bias than Conv"),
        (BatchNorm(), BatchNormGroup(), "BatchNormGroup has more bias than BatchNorm"),
        (ConvGroup(2, 3), ConvGroup(1, 3, group="p4m"), "group 'p4m' must be a part of 'p4'"),
        (ConvGroup(2, 3), ConvGroup(2, 3, lifting=True), "lifting must be the same"),
        (ConvGroup(2, 3), Conv(9, 3), "features must be the same, got 8 and 9"),
        (ConvGroup(2, 3), ConvGroup(2, 3, strides=2), "strides must be the same, got 1 and 2"),
    ],
)
def test_models_that_cannot_be_lifted(source: nn.Module, target: nn.Module, message: str) -> None:
    x = jnp.zeros((1, 9, 9, 8))
    made = source.init(jax.random.key(0), x)
    with pytest.raises(LayerError, match="layer layers_0: cannot be lifted: .*" + message) as error:
        lift(
            {"params": {"layers_0": made["params"]}}, Chain((source,)), Chain((target,)), (9, 9, 8)
        )
    assert "\n" not in str(error.value)
