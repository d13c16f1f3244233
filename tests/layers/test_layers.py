"""Layers: they are values, each applies one operation, all start with the same variance."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import layers, ops
from cnn.errors import InputError
from cnn.layers import (
    BatchNorm,
    Chain,
    Concat,
    Conv,
    ConvLocal,
    ConvTiled,
    Dense,
    DenseSpatial,
    Dropout,
    Flatten,
    GroupNorm,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv,
)

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


def test_a_layer_is_a_value() -> None:
    assert Conv(64, window=3, strides=2) == Conv(64, window=3, strides=2)
    assert Conv(64, window=3) != ConvLocal(64, window=3)
    assert len({Conv(64, 3), Conv(64, 3), Conv(65, 3)}) == 2
    assert Conv(64, 3).clone(strides=2) == Conv(64, 3, strides=2)


LAYER = Conv(3, (1,))


@pytest.mark.parametrize(
    "twice",
    [
        Chain((LAYER, LAYER)),
        Concat((LAYER, LAYER)),
        Residual(LAYER, LAYER),
        Concat((Chain((LAYER,)), Chain((LAYER,)))),
        Chain((Residual(LAYER),) * 2),
    ],
    ids=["chain", "branches", "residual", "nested branches", "nested residual"],
)
def test_the_same_value_twice_is_two_layers(twice: nn.Module) -> None:
    params = twice.init(jax.random.key(0), jnp.ones((1, 1, 3)))["params"]
    assert sum(leaf.size for leaf in jax.tree.leaves(params)) == 2 * (3 * 3 + 3)
    kernels = [leaf for leaf in jax.tree.leaves(params) if leaf.ndim == 3]
    assert not np.array_equal(kernels[0], kernels[1])


def test_chain_takes_any_linen_module_and_passes_train_on() -> None:
    model = Chain((nn.Dense(8), nn.LayerNorm(), ReLU(), Dropout(0.5)))
    x = jnp.ones((4, 3))
    made = model.init(jax.random.key(0), x)
    still = model.apply(made, x)
    np.testing.assert_array_equal(still, model.apply(made, x))
    dropped = model.apply(made, x, train=True, rngs={"dropout": jax.random.key(1)})
    kept = np.asarray(dropped) != 0
    np.testing.assert_allclose(dropped[kept], 2 * still[kept], rtol=1e-6)
    assert 0 < kept.sum() < np.count_nonzero(still)


def test_batch_norm_uses_the_batch_in_training_and_averages_in_inference() -> None:
    x = 3 + 2 * jax.random.normal(jax.random.key(0), (500, 4, 2))
    layer = BatchNorm(momentum=0.0)
    made = layer.init(jax.random.key(0), x)
    np.testing.assert_allclose(layer.apply(made, x), x, rtol=1e-4)  # mean 0, variance 1 so far
    y, updated = layer.apply(made, x, train=True, mutable=["batch_stats"])
    np.testing.assert_allclose(y.mean((0, 1)), 0, atol=1e-5)
    np.testing.assert_allclose(y.std((0, 1)), 1, rtol=1e-4)
    np.testing.assert_allclose(layer.apply({**made, **updated}, x), y, atol=1e-4)


def test_residual_and_concat() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 5, 3))
    y, made = Residual(Conv(3, 3, padding=1)).init_with_output(jax.random.key(1), x)
    np.testing.assert_allclose(
        y, x + ops.conv(x, made["params"]["body"]["kernel"], padding=1), rtol=1e-6
    )
    y, _ = Concat((Conv(3, 1), MaxPool(1))).init_with_output(jax.random.key(1), x)
    np.testing.assert_array_equal(y[..., 3:], x)


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
        (SeparableConv(4, 3, groups=3), r"groups of SeparableConv must be 1, got 3"),
        (GroupNorm(groups=2), r"groups must divide the channels: got groups=2, channels=3"),
        (Residual(Conv(4, 1)), r"same output shape, got \(2, 8, 4\) and \(2, 8, 3\)"),
        (Concat((Conv(1, 1), Conv(1, 3))), r"branches of Concat must have the same output size"),
        (
            Chain((Flatten(), Conv(4, 3))),
            r"input of Conv must have the shape \(batch, \*spatial",
        ),
    ],
)
def test_an_invalid_field_raises_one_line(layer: nn.Module, message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        layer.init(jax.random.key(0), jnp.zeros((2, 8, 3)))
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "layer",
    [
        MaxPool(2),
        layers.AvgPool(2),
        layers.AdaptiveAvgPool(2),
        layers.AdaptiveMaxPool(2),
        layers.BlurPool(),
        layers.Maxout(3),
        layers.GlobalAvgPool(),
        layers.GlobalMaxPool(),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_pooling_has_no_parameters(layer: nn.Module) -> None:
    assert layer.init(jax.random.key(0), jnp.ones((2, 8, 3))) == {}


def test_normalization_choices() -> None:
    assert layers.normalization("batch", 8) == (BatchNorm(),)
    assert layers.normalization("none", 8) == ()
    with pytest.raises(InputError, match=r"^norm must be .*, got 'layer'"):
        layers.normalization("layer", 8)  # type: ignore[arg-type]
