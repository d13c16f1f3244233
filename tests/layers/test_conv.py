"""Convolutional layers: weights, operations, initial variance."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ops
from cnn.errors import InputError
from cnn.layers import Conv, ConvLocal, ConvTiled, Dense, DenseSpatial, SeparableConv

RUNGS = [Conv, ConvTiled, ConvLocal, DenseSpatial]
SHAPES = {1: (40, 8), 2: (10, 11, 4)}


@pytest.mark.parametrize("rank", SHAPES)
@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.__name__)
def test_every_rung_starts_with_the_same_output_variance(rung: type, rank: int) -> None:
    """Var y = scale · E[x²], within 10 % at random input, mean over weights, maps, positions."""
    x = jax.random.normal(jax.random.key(0), (64, *SHAPES[rank])) + 1.0  # E[x²] = 2
    layer = rung(256, window=3, strides=2, scale=1.5)
    y, _ = jax.jit(layer.init_with_output)(jax.random.key(1), x)
    assert float((y**2).mean()) / (1.5 * 2) == pytest.approx(1.0, abs=0.1)


def test_zero_padding_costs_the_border_only() -> None:
    """At padding 1 and window 3 the border sees two of three inputs, hence 2/3 of the variance."""
    x = jax.random.normal(jax.random.key(0), (64, 20, 4))
    y, _ = Conv(512, 3, padding=1, scale=1.0).init_with_output(jax.random.key(1), x)
    power = np.asarray((y**2).mean(axis=(0, 2)))
    np.testing.assert_allclose(power[[0, -1]], 2 / 3, rtol=0.1)
    np.testing.assert_allclose(power[1:-1].mean(), 1.0, rtol=0.05)


@pytest.mark.parametrize(
    ("layer", "kernel", "bias"),
    [
        (Conv(8, (5, 3)), (5, 3, 6, 8), (8,)),
        (Conv(8, (5, 3), groups=2), (5, 3, 3, 8), (8,)),
        (ConvTiled(8, (5, 3), period=(2, 4)), (2, 4, 5, 3, 6, 8), (2, 4, 8)),
        (ConvLocal(8, (5, 3), strides=(1, 2)), (6, 4, 5, 3, 6, 8), (6, 4, 8)),
        (DenseSpatial(8, (5, 3), strides=(1, 2)), (10, 9, 6, 6, 4, 8), (6, 4, 8)),
        (Dense(8), (6, 8), (8,)),
    ],
    ids=["conv", "grouped", "tiled", "local", "dense-spatial", "dense"],
)
def test_weights_have_the_documented_shapes(layer: nn.Module, kernel: tuple, bias: tuple) -> None:
    x = jnp.zeros((1, 10, 9, 6))
    params = jax.eval_shape(layer.init, jax.random.key(0), x)["params"]
    assert params["kernel"].shape == kernel
    assert params["bias"].shape == bias
    bare = layer.clone(use_bias=False)
    assert "bias" not in jax.eval_shape(bare.init, jax.random.key(0), x)["params"]


@pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.__name__)
def test_a_layer_applies_the_operation_of_its_name(rung: type) -> None:
    operation = {
        Conv: ops.conv,
        ConvTiled: ops.conv_tiled,
        ConvLocal: ops.conv_local,
    }.get(rung)
    fields = {"strides": 2, "padding": "SAME_LOWER", "dilation": 2}
    fields |= {"padding_mode": "reflect", "groups": 3} if operation else {}
    x = jax.random.normal(jax.random.key(0), (2, 12, 3))
    y, made = rung(6, 3, **fields).init_with_output(jax.random.key(1), x)
    kernel = made["params"]["kernel"]
    expected = operation(x, kernel, **fields) if operation else ops.dense_spatial(x, kernel)
    np.testing.assert_allclose(y, expected, rtol=1e-6)
    assert y.shape == (2, 6, 6)


def test_biases_are_added_at_their_positions() -> None:
    x = jnp.zeros((1, 6, 1))
    for layer, bias in [
        (Conv(1, 3), [[5.0]] * 4),
        (ConvTiled(1, 3, period=2), [[1.0], [2.0], [1.0], [2.0]]),
        (ConvLocal(1, 3), [[1.0], [2.0], [3.0], [4.0]]),
        (DenseSpatial(1, 3), [[1.0], [2.0], [3.0], [4.0]]),
    ]:
        made = layer.init(jax.random.key(0), x)["params"]
        values = jnp.arange(1.0, 1 + made["bias"].size).reshape(made["bias"].shape)
        values = values if made["bias"].size > 1 else jnp.full((1,), 5.0)
        y = layer.apply({"params": {**made, "bias": values}}, x)
        np.testing.assert_array_equal(y[0], bias)


def test_separable_conv_is_depthwise_then_pointwise() -> None:
    """The lecture's example, 3×3 from 16 to 32 channels, has 4,608 weights against 656."""

    def count(layer: nn.Module) -> int:
        made = jax.eval_shape(layer.init, jax.random.key(0), jnp.zeros((1, 8, 8, 16)))
        return sum(leaf.size for leaf in jax.tree.leaves(made))

    assert count(Conv(32, (3, 3), use_bias=False)) == 4608
    assert count(SeparableConv(32, (3, 3), use_bias=False)) == 656

    rng = np.random.default_rng(0)
    x = rng.normal(size=(2, 5, 6, 2))
    depthwise, pointwise = rng.normal(size=(3, 3, 1, 4)), rng.normal(size=(4, 3))
    layer = SeparableConv(3, (3, 3), strides=2, padding="SAME", multiplier=2, use_bias=False)
    kernels = {"depthwise_kernel": depthwise, "pointwise_kernel": pointwise}
    y = layer.apply({"params": jax.tree.map(jnp.float32, kernels)}, jnp.float32(x))
    padded = np.pad(x, ((0, 0), (1, 1), (0, 1), (0, 0)))  # 5 → 3 and 6 → 3 windows of stride 2
    expected = np.zeros((2, 3, 3, 3))
    for b, i, j in np.ndindex(2, 3, 3):
        patch = padded[b, 2 * i : 2 * i + 3, 2 * j : 2 * j + 3]
        inner = [(patch[..., m // 2] * depthwise[..., 0, m]).sum() for m in range(4)]
        expected[b, i, j] = np.array(inner) @ pointwise
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    one_axis = jax.eval_shape(
        SeparableConv(3, 3).init_with_output, jax.random.key(0), jnp.zeros((1, 9, 2))
    )
    assert one_axis[0].shape == (1, 7, 3)


def test_a_layer_is_a_value() -> None:
    assert Conv(64, window=3, strides=2) == Conv(64, window=3, strides=2)
    assert Conv(64, window=3) != ConvLocal(64, window=3)
    assert len({Conv(64, 3), Conv(64, 3), Conv(65, 3)}) == 2
    assert Conv(64, 3).clone(strides=2) == Conv(64, 3, strides=2)


@pytest.mark.parametrize(
    ("layer", "message"),
    [
        (Conv(4, (3, 3)), r"window must be an int, .* got \(3, 3\)"),
        (Conv(4, 9), r"window must fit into the padded size 8 on axis 1, got 9"),
        (Conv(4, 3, groups=2), r"divide the input channels: got groups=2, input channels=3"),
        (Conv(4, 3, groups=3), r"divide the features: got groups=3, features=4"),
        (Conv(4, 3, strides=0), r"strides must be at least 1, got 0"),
        (DenseSpatial(4, 3, groups=3), r"groups of DenseSpatial must be 1, got 3"),
        (DenseSpatial(4, 3, padding_mode="reflect"), r"'zeros' or 'circular', got 'reflect'"),
        (DenseSpatial(4, 3, radius=-1), r"radius must be at least 0, or None .*, got -1"),
        (SeparableConv(4, 3, groups=3), r"groups of SeparableConv must be 1, got 3"),
    ],
)
def test_an_invalid_field_raises_one_line(layer: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        layer.init(jax.random.key(0), jnp.zeros((2, 8, 3)))
    assert "\n" not in str(error.value)
