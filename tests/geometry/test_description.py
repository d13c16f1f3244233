"""Costs by hand, tables, and error messages."""

from __future__ import annotations

import json

import jax.numpy as jnp
import pytest
from flax import linen as nn
from jaxtyping import Array

from cnn import models
from cnn.errors import InputError, LayerError
from cnn.geometry import HEADS, Field, describe
from cnn.layers import (
    AvgPool,
    BatchNorm,
    Chain,
    Conv,
    ConvLocal,
    ConvTiled,
    Dense,
    DenseSpatial,
    Flatten,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv,
)


@pytest.mark.parametrize(
    ("layer", "shape", "params", "macs"),
    [
        (Conv(6, (3, 3), padding=1), (5, 4, 2), 9 * 2 * 6 + 6, 20 * 9 * 2 * 6),
        (Conv(6, (3, 3), 2, 1, groups=2), (5, 5, 4), 9 * 2 * 6 + 6, 9 * 9 * 2 * 6),
        (Conv(2, 3, dilation=2, use_bias=False), (9, 1), 3 * 2, 5 * 3 * 2),
        (ConvLocal(2, 3), (7, 1), 5 * (3 * 2 + 2), 5 * 3 * 2),
        (Chain((ConvLocal(2, (3, 3), padding=1),) * 2), (4, 4, 2), 2 * 16 * 38, 2 * 16 * 36),
        (ConvTiled(2, 3, period=2), (7, 1), 2 * (3 * 2 + 2), 5 * 3 * 2),
        (DenseSpatial(2, 3), (7, 3), 7 * 3 * 5 * 2 + 5 * 2, 7 * 3 * 5 * 2),
        (DenseSpatial(2, 3, radius=1), (7, 3), 5 * 3 * 3 * 2 + 5 * 2, 5 * 3 * 3 * 2),
        (SeparableConv(5, 3, multiplier=2), (7, 3), 3 * 6 + 6 * 5 + 5, 5 * (3 * 6 + 6 * 5)),
        (Dense(4), (3,), 3 * 4 + 4, 3 * 4),
        (Dense(4), (5, 6, 3), 3 * 4 + 4, 30 * 3 * 4),
        (BatchNorm(), (5, 3), 6, 0),
        (MaxPool(2), (6, 3), 0, 0),
        (AvgPool(2), (6, 3), 0, 0),
    ],
)
def test_costs_by_hand(layer: nn.Module, shape: tuple[int, ...], params: int, macs: int) -> None:
    made = describe(layer, shape)
    assert (made.params, made.macs) == (params, macs)


@pytest.mark.parametrize(
    ("name", "params", "macs"),
    [
        ("alexnet", 61_100_840, 714_188_480),
        ("vgg16", 138_357_544, 15_470_264_320),
        # published: 1,502 M with 5×5 counted in 1×1, 3×3
        pytest.param("googlenet", 6_998_552, 1_582_671_872, marks=pytest.mark.slow),
        # published: 569 M
        pytest.param("mobilenet_v1", 4_231_976, 568_740_352, marks=pytest.mark.slow),
        ("resnet18", 11_689_512, 1_814_073_344),  # published: 1.8 G
    ],
)
def test_costs_of_networks(name: str, params: int, macs: int) -> None:
    made = describe(models.by_name(name)(), (224, 224, 3))
    assert (made.params, made.macs) == (params, macs)


def test_layers_in_order_with_shapes_and_memory() -> None:
    inner = Residual(Chain((Conv(3, 3, padding=1), ReLU())))
    made = describe(Chain((Conv(3, 3), inner, Flatten(), Dense(2))), (8, 1))
    assert [(x.name, x.kind, x.shape, x.memory) for x in made.layers] == [
        ("layers_0", "Conv", (6, 3), 72),
        ("layers_1/body/layers_0", "Conv", (6, 3), 72),
        ("layers_1/body/layers_1", "ReLU", (6, 3), 72),
        ("layers_1", "Residual", (6, 3), 72),
        ("layers_3", "Dense", (2,), 8),
    ]
    assert made.memory == 4 * 72 + 8
    assert made.local[-1].name == "layers_1"
    assert made.receptive_field == (5,)


def test_twice_is_the_same() -> None:
    model = models.lenet5()
    assert describe(model, (28, 28, 1)) == describe(model, (28, 28, 1))


def test_no_local_layer() -> None:
    made = describe(models.mlp(), (40, 1))
    assert (made.local, made.field) == ((), Field((1,), (1,), (0,)))


class Swish(nn.Module):
    """An activation with a parameter that is not of `cnn.layers`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        beta = self.param("beta", nn.initializers.ones, (1, 1, 1))
        return x * nn.sigmoid(jnp.broadcast_to(beta, x.shape) * x)


class Halve(nn.Module):
    """A layer made of others that halves the map, not of `cnn.layers`."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        return nn.Dense(5)(x[:, ::2])


def test_layers_of_the_user() -> None:
    made = describe(Chain((Conv(2, 3), Swish(), Halve(), ReLU())), (8, 1))
    assert [(x.shape, x.params, x.macs) for x in made.layers[1:3]] == [
        ((6, 2), 1, 0),
        ((3, 5), 2 * 5 + 5, 3 * 2 * 5),
    ]
    assert [x.field and x.field.stride for x in made.layers] == [(1,), (1,), (2,), (2,)]
    assert [x.field and x.field.size for x in made.layers] == [(3,)] * 4


def test_table_and_json() -> None:
    made = describe(models.lecture_cnn(), (28, 28, 1))
    lines = made.to_markdown().splitlines()
    assert lines[0] == "| " + " | ".join(HEADS) + " |"
    assert lines[5] == "| layers_3 | Conv | 8×8×32 | 12,832 | 819,200 | 14 | 2 | 0 | 6.5 | 8.2 |"
    assert lines[-1] == "| total |  |  | 281,034 | 1,316,864 | 16 | 4 | 0 | 7.5 | 105.5 |"
    read = json.loads(made.to_json())
    assert (read["params"], read["macs"], read["receptive_field"]) == (281034, 1316864, [16, 16])
    assert read["layers"][3]["field"] == {
        "size": [14, 14],
        "stride": [2, 2],
        "padding": [0, 0],
        "centre": [6.5, 6.5],
        "uniform": True,
    }
    assert read["layers"][-1]["field"] is None
    assert describe(Conv(1, (3, 5)), (8, 8, 1)).rows()[0][5] == "3×5"


@pytest.mark.parametrize(
    ("name", "shape", "first", "smallest"),
    [
        pytest.param("alexnet", (40, 300, 3), "layers_12", (63, 63, 3), marks=pytest.mark.slow),
        pytest.param("vgg16", (31, 31, 3), "layers_30", (32, 32, 3), marks=pytest.mark.slow),
        ("lecture_cnn", (10, 10, 1), "layers_3", (16, 16, 1)),
        ("cnn1d", (2, 1), "layers_0", (3, 1)),
    ],
)
def test_input_too_small(
    name: str, shape: tuple[int, ...], first: str, smallest: tuple[int, ...]
) -> None:
    model = models.by_name(name)()
    with pytest.raises(LayerError) as caught:
        describe(model, shape)
    said = str(caught.value)
    assert said.startswith(f"layer {first}: window ")
    assert said.endswith(f"; the smallest input that works is {smallest}, not {shape}")
    assert caught.value.layer == first
    assert describe(model, smallest).params > 0


def test_other_bad_input() -> None:
    with pytest.raises(LayerError, match="layer layers_0: groups must divide") as caught:
        describe(Chain((Conv(3, (3, 3), groups=3),)), (32, 32, 1))
    assert "smallest" not in str(caught.value)
    with pytest.raises(InputError, match=r"input_shape must be .* got \(0, 3\)"):
        describe(models.lenet5(), (0, 3))
