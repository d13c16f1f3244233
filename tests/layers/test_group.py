"""Layers that share over rotations and reflections: symmetry of whole networks, weights, costs."""

from __future__ import annotations

import json
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ops
from cnn.errors import InputError, LayerError
from cnn.geometry import describe
from cnn.layers import (
    AvgPool,
    BatchNorm,
    BatchNormGroup,
    BlurPool,
    Chain,
    Concat,
    Conv,
    ConvGroup,
    Dense,
    GlobalAvgPool,
    GroupPool,
    MaxPool,
    ReLU,
    Residual,
)
from cnn.layers.serialization import from_spec, to_spec
from tests.ops.turns import CASES, MATRICES, turn

CIRCULAR: dict[str, Any] = {"padding": 1, "padding_mode": "circular"}
SIZES = {"flip": (13,), "p4": (13, 13), "p4m": (13, 13)}


def network(group: ops.Group) -> Chain:
    """Return one of each layer that keeps the symmetry, on maps of odd sizes: 13, 7, 3."""
    branches = (ConvGroup(1, 1, group=group), ConvGroup(3, 3, group=group, **CIRCULAR))
    return Chain(
        (
            ConvGroup(2, 3, group=group, lifting=True, **CIRCULAR),
            BatchNormGroup(group=group),
            ReLU(),
            MaxPool(3, strides=2, padding=1),
            Residual(ConvGroup(2, 3, group=group, groups=2, dilation=2, padding=2)),
            Concat(branches),
            ReLU(),
            AvgPool(3, strides=2),
            BlurPool(3, strides=2),
            ConvGroup(2, 3, group=group, **CIRCULAR),
        )
    )


def head(group: ops.Group) -> Chain:
    return Chain((ReLU(), GroupPool(group, "mean"), GlobalAvgPool(), Dense(3)))


@pytest.mark.parametrize(
    "group", ["p4m", *(pytest.param(name, marks=pytest.mark.slow) for name in ("p4", "flip"))]
)
def test_a_whole_network_turns_with_its_input(group: ops.Group) -> None:
    """Its map is turned and permuted, its output does not change, in training and in inference."""
    body, rest = network(group), head(group)
    rng = np.random.default_rng(0)
    with jax.enable_x64(True):
        x = rng.normal(size=(2, *SIZES[group], 3))
        made = jax.jit(body.init)(jax.random.key(0), x)
        made = jax.tree.map(lambda w: jnp.asarray(w + 0.1 * rng.random(w.shape)), made)
        y = body.apply(made, x)
        weights = rest.init(jax.random.key(1), y)
        run = jax.jit(lambda x, train: body.apply(made, x, train, mutable=True), static_argnums=1)
        for train in (False, True):
            y, state = run(x, train)
            logits = rest.apply(weights, y)
            assert float(jnp.abs(y).mean()) > 0.1
            for t in range(len(MATRICES[group])):
                turned, other = run(turn(x, group, t, features=False), train)
                expected = turn(np.asarray(y), group, t, features=True)
                np.testing.assert_allclose(turned, expected, atol=1e-10)
                np.testing.assert_allclose(rest.apply(weights, turned), logits, atol=1e-10)
                jax.tree.map(
                    lambda a, b: np.testing.assert_allclose(a, b, atol=1e-10), other, state
                )
                if t:
                    assert np.abs(expected - y).max() > 0.1


@pytest.mark.parametrize(("group", "t"), [case for case in CASES if case[1] in (0, 1)])
def test_float32_is_symmetric_to_1e_6(group: ops.Group, t: int) -> None:
    model = Chain((network(group), head(group)))
    x = np.random.default_rng(1).normal(size=(2, *SIZES[group], 3)).astype(np.float32)
    made = model.init(jax.random.key(0), x)
    y = model.apply(made, x)
    turned = model.apply(made, turn(x, group, t, features=False))
    np.testing.assert_allclose(turned, y, atol=1e-6 * float(jnp.abs(y).max()))


def test_one_statistic_per_channel_breaks_the_symmetry() -> None:
    """`BatchNorm` in training moves a p4 map by a few per cent, `BatchNormGroup` by nothing."""
    x = np.random.default_rng(0).normal(size=(2, 7, 7, 1)).astype(np.float32).cumsum(1)
    errors = []
    for norm in (BatchNorm(), BatchNormGroup()):
        model = Chain((ConvGroup(4, 3, lifting=True), norm))
        made = model.init(jax.random.key(0), x)
        _, state = model.apply(made, x, train=True, mutable=["batch_stats"])
        kept = {**made, **state}
        y, turned = model.apply(kept, x), model.apply(kept, turn(x, "p4", 1, False))
        rest = np.linalg.norm(turned - turn(np.asarray(y), "p4", 1, True)) / np.linalg.norm(y)
        errors.append(float(rest))
    assert 0.01 < errors[0] < 1
    assert errors[1] < 1e-6


def test_batch_norm_by_hand() -> None:
    """Two features of "flip": the mean and variance of 1, 3 and 5, 7, and of 2, 4 and 2, 4."""
    x = jnp.array([[[1.0, 3, 2, 4]], [[5, 7, 2, 4]]])
    layer = BatchNormGroup(momentum=0.0, epsilon=0.0, group="flip")
    made = layer.init(jax.random.key(0), x)
    assert made["params"]["scale"].shape == (2,)
    y, state = layer.apply(made, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(state["batch_stats"]["mean"], [4, 3])
    np.testing.assert_allclose(state["batch_stats"]["var"], [5, 1], rtol=1e-6)
    root = 5**0.5
    expected = [[[-3 / root, -1 / root, -1, 1]], [[1 / root, 3 / root, -1, 1]]]
    np.testing.assert_allclose(y, expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("layer", "kernel", "features"),
    [
        (ConvGroup(3, 5, lifting=True), (5, 5, 8, 3), 12),
        (ConvGroup(3, 5), (5, 5, 4, 2, 3), 12),
        (ConvGroup(6, 5, group="p4", groups=2), (5, 5, 4, 1, 6), 24),
        (ConvGroup(3, (3, 3), group="p4m"), (3, 3, 8, 1, 3), 24),
    ],
    ids=["lifting", "p4", "grouped", "p4m"],
)
def test_weights_have_the_documented_shapes(
    layer: ConvGroup, kernel: tuple[int, ...], features: int
) -> None:
    x = jnp.zeros((1, 9, 9, 8))
    y, made = jax.eval_shape(layer.init_with_output, jax.random.key(0), x)
    assert made["params"]["kernel"].shape == kernel
    assert made["params"]["bias"].shape == (layer.features,)
    assert y.shape[-1] == features
    bare = jax.eval_shape(layer.clone(use_bias=False).init, jax.random.key(0), x)
    assert "bias" not in bare["params"]


@pytest.mark.parametrize("lifting", [True, False])
def test_it_starts_with_the_output_variance_of_a_convolution(lifting: bool) -> None:
    x = jax.random.normal(jax.random.key(0), (8, 7, 7, 8)) + 1.0  # E[x²] = 2
    layer = ConvGroup(512, 3, scale=1.5, lifting=lifting)
    y, _ = jax.jit(layer.init_with_output)(jax.random.key(1), x)
    assert float((y**2).mean()) / (1.5 * 2) == pytest.approx(1.0, abs=0.1)


def test_describe_counts_the_shared_kernel_once() -> None:
    """p4 with 2 and 3 features, against convolutions with the same 8 and 12 output channels."""
    layers = (ConvGroup(2, 3, padding=1, lifting=True), MaxPool(3, 2, 1), ConvGroup(3, 5))
    model = Chain((*layers, BatchNormGroup(), GroupPool(), GlobalAvgPool()))
    plain = Chain((Conv(8, 3, padding=1), MaxPool(3, 2, 1), Conv(12, 5), BatchNorm()))
    ours, theirs = describe(model, (17, 17, 1)), describe(plain, (17, 17, 1))
    first, pool, second, norm, group_pool, _ = ours.layers
    assert (first.kind, first.params, first.macs) == ("ConvGroup", 9 * 2 + 2, 17 * 17 * 9 * 8)
    assert (second.params, second.macs) == (25 * 4 * 2 * 3 + 3, 25 * 25 * 8 * 12)
    assert (norm.kind, norm.params) == ("BatchNormGroup", 3 + 3)
    assert (group_pool.kind, group_pool.shape) == ("GroupPool", (5, 5, 3))
    assert [layer.macs for layer in (first, pool, second)] == [
        layer.macs for layer in theirs.layers[:3]
    ]
    assert [layer.field for layer in ours.layers[:4]] == [layer.field for layer in theirs.layers]
    assert group_pool.field == norm.field


@pytest.mark.parametrize(
    "layer",
    [ConvGroup(4, (3, 3), group="p4m", lifting=True), BatchNormGroup(group="flip"), GroupPool()],
    ids=lambda layer: type(layer).__name__,
)
def test_a_line_of_json_rebuilds_the_layer(layer: nn.Module) -> None:
    assert from_spec(json.loads(json.dumps(to_spec(layer)))) == layer


def test_a_group_that_is_none_is_no_spec() -> None:
    line = r"group of layer ConvGroup must be Literal\['flip', 'p4', 'p4m'\], got 'p6'"
    with pytest.raises(InputError, match=line):
        from_spec({"layer": "ConvGroup", "features": 8, "window": 3, "group": "p6"})


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (ConvGroup(2, 3), "multiple of 4, .* 'p4', got 3: set lifting=True in the first layer"),
        (ConvGroup(2, 3, group="flip", lifting=True), "group must fit 2 spatial axes, got 'flip'"),
        (ConvGroup(2, (3, 5), lifting=True), r"window must be square .*, got \(3, 5\)"),
        (ConvGroup(2, 2, lifting=True, padding="SAME"), r"same on both sides .*, got \(0, 1\)"),
        (
            ConvGroup(2, 3, lifting=True, strides=2),
            r"strides must divide .* and 8 \+ 0 − 3 on axis 1",
        ),
        (ConvGroup(2, 3, lifting=True, groups=2), "divide the input features: got groups=2"),
        (ConvGroup(2, 3, lifting=True, groups=3), "groups=3, features=2"),
        (ConvGroup(2, 3, group="p6", lifting=True), "unknown group 'p6'"),  # type: ignore[arg-type]
        (BatchNormGroup(), "channels must be a multiple of 4, .*, got 3"),
        (GroupPool("p4m"), "channels must be a multiple of 8, .*, got 3"),
    ],
)
def test_a_layer_that_does_not_fit_is_named(layer: nn.Module, message: str) -> None:
    with pytest.raises(LayerError, match="layer layers_1: .*" + message) as error:
        Chain((ReLU(), layer)).init(jax.random.key(0), jnp.zeros((1, 8, 8, 3)))
    assert "\n" not in str(error.value)
