"""Receptive fields: three methods agree, and published values."""

from __future__ import annotations

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import strategies as st

from cnn import models
from cnn.errors import InputError
from cnn.geometry import Field, MisalignedError, describe
from cnn.layers import (
    AvgPool,
    Chain,
    Concat,
    Conv,
    Dense,
    DenseSpatial,
    Flatten,
    MaxPool,
    ReLU,
    Residual,
)
from cnn.layers.tree import leaf_layers
from tests.geometry.oracles import backward_field, gradient_field, hull, networks


@hypothesis.settings(max_examples=hypothesis.settings().max_examples // 5)  # a second each
@hypothesis.given(networks(), st.data())
def test_three_ways_agree(network: tuple[Chain, tuple[int, ...]], data: st.DataObject) -> None:
    """Forward and backward on the whole field, backward and gradient on what is in the input."""
    model, shape = network
    try:
        made = describe(model, shape, aligned=False)
    except InputError:
        hypothesis.reject()
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    y, variables = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    assert made.layers[-1].shape == y.shape[1:]
    if not any(isinstance(layer, DenseSpatial) for layer in leaf_layers(model).values()):  # masked
        leaves = jax.tree.leaves(variables.get("params", {}))
        assert made.params == sum(leaf.size for leaf in leaves)
    *size, _ = y.shape[1:]
    unit = [data.draw(st.integers(0, n - 1)) for n in size]
    name = made.layers[-1].name
    inside = backward_field(model, shape, name, unit, inside=True)
    found = made.field_of(name, unit)
    if all(layer.field is not None and layer.field.is_map for layer in made.layers):
        assert found == hull(backward_field(model, shape, name, unit))
    else:  # a masked layer has fewer weights near the border where a window has padding
        clipped = [(max(a, 0), min(b, n - 1)) for (a, b), n in zip(found, shape, strict=False)]
        assert clipped == [hull((axis,))[0] if axis else (0, -1) for axis in inside]
    mask = gradient_field(model, shape, name, unit)
    seen = [frozenset(np.flatnonzero(mask.any(tuple(other)))) for other in others(mask.ndim)]
    assert seen == (list(inside) if all(inside) else [frozenset()] * len(inside))


def others(rank: int) -> list[list[int]]:
    return [[a for a in range(rank) if a != axis] for axis in range(rank)]


FIELDS = [
    ("lecture_cnn", 28, 16, 4, 0),
    ("alexnet", 224, 195, 32, 64 + 2),  # the article's has no padding in the first layer
    ("vgg11", 224, 150, 32, 59),
    ("vgg16", 224, 212, 32, 90),
    ("mobilenet_v1", 224, 315, 32, 126),
    ("resnet18", 224, 435, 32, 217),
]


@pytest.mark.parametrize(("name", "size", "field", "stride", "padding"), FIELDS)
def test_known_fields(name: str, size: int, field: int, stride: int, padding: int) -> None:
    """AlexNet, VGG-16, MobileNet: Araujo et al. 2019, table 1; the others by hand."""
    shape = (size, size, 1 if name == "lecture_cnn" else 3)
    model = models.by_name(name)()
    made = describe(model, shape)
    assert made.field == Field((field,) * 2, (stride,) * 2, (padding,) * 2)
    assert hull(backward_field(model, shape, unit=(0, 0))) == made.field.of((0, 0))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("model", "size", "field"),
    [
        (models.lecture_cnn(), 28, 16),
        (models.alexnet(width=1 / 32), 259, 195 + 32),
        (models.vgg11(width=1 / 64), 224, 150),
        (models.vgg16(width=1 / 64), 224, 212),
        (models.mobilenet_v1(width=1 / 32), 352, 315),
    ],
)
def test_known_fields_by_the_gradient(model: nn.Module, size: int, field: int) -> None:
    mask = gradient_field(model, (size, size, 3))
    assert [mask.any(axis).sum() for axis in (0, 1)] == [field, field]
    assert mask.sum() == field**2


def resnet50(width: int = 1) -> Chain:
    """The trunk of He et al. 2016, stride in the 1×1 convolution: 3, 4, 6, 3 blocks."""
    blocks = []
    for stage, count in enumerate((3, 4, 6, 3)):
        for i in range(count):
            s = 2 if i == 0 and stage > 0 else 1
            body = (Conv(width, (1, 1), s), Conv(width, (3, 3), padding=1), Conv(width, (1, 1)))
            blocks.append(Residual(Chain(body), Conv(width, (1, 1), s)))
    return Chain((Conv(width, (7, 7), 2, 3), MaxPool((3, 3), 2, "SAME"), *blocks))


def test_resnet50() -> None:
    """Araujo et al. 2019, table 1: 483, 32, 239."""
    assert describe(resnet50(), (224, 224, 3)).field == Field((483,) * 2, (32,) * 2, (239,) * 2)
    one_axis = gradient_field(resnet50(), (512, 512, 1)).any(0)
    assert one_axis.sum() == 483


def test_fields_of_every_layer_by_hand() -> None:
    made = describe(models.lecture_cnn(), (28, 28, 1))
    assert [x.field.size[0] for x in made.local if x.kind != "ReLU"] == [5, 6, 14, 16]
    pools = [x for x in describe(models.vgg16(), (224, 224, 3)).local if x.kind == "MaxPool"]
    assert [x.field.size[0] for x in pools] == [6, 16, 44, 100, 212]
    assert [x.field.centre[0] for x in pools] == [0.5, 1.5, 3.5, 7.5, 15.5]  # (S − 1) / 2


def test_dilations_double() -> None:
    model = Chain(tuple(Conv(1, 3, dilation=2**i) for i in range(4)))
    assert describe(model, (40, 1)).receptive_field == (31,)
    assert hull(backward_field(model, (40, 1), unit=(0,))) == ((0, 30),)
    assert gradient_field(model, (40, 1), unit=(0,)).tolist() == [True] * 31 + [False] * 9


def test_dilated_pooling() -> None:
    model = Chain((MaxPool(3, 1, dilation=3), MaxPool(2)))
    assert backward_field(model, (14, 1), unit=(1,)) == ({2, 3, 5, 6, 8, 9},)
    assert np.flatnonzero(gradient_field(model, (14, 1), unit=(1,))).tolist() == [2, 3, 5, 6, 8, 9]


def test_the_identity_of_a_residual_counts() -> None:
    """The body sees the next pixel only."""
    model = Residual(Conv(1, 1, padding=((-1, 1),)))
    made = describe(model, (8, 1), aligned=False)
    assert made.field == Field((2,), (1,), (0,))
    assert backward_field(model, (8, 1), unit=(3,)) == ({3, 4},)
    assert np.flatnonzero(gradient_field(model, (8, 1), unit=(3,))).tolist() == [3, 4]


def test_dilation_leaves_holes() -> None:
    model = Chain((Conv(1, 3, dilation=4, padding=2),))
    assert backward_field(model, (12, 1), unit=(0,)) == ({-2, 2, 6},)
    assert backward_field(model, (12, 1), unit=(0,), inside=True) == ({2, 6},)
    assert np.flatnonzero(gradient_field(model, (12, 1), unit=(0,))).tolist() == [2, 6]


def test_misaligned_branches() -> None:
    """The centre of a window of 2 is half a pixel to the right of that of 1."""
    model = Chain((ReLU(), Concat((Conv(1, 2, padding=((0, 1),)), Conv(1, 1)))))
    with pytest.raises(MisalignedError, match=r"layer layers_1: .* \(0.0,\) and .* \(0.5,\)"):
        describe(model, (8, 1))
    assert describe(model, (8, 1), aligned=False).field == Field((2,), (1,), (0,))


def test_different_strides_are_misaligned() -> None:
    """Both have 3 outputs on 5 inputs."""
    model = Concat((Conv(1, 1, 2), Conv(1, 3)))
    with pytest.raises(MisalignedError, match=r"stride \(1,\), centre \(1.0,\) and stride \(2,\)"):
        describe(model, (5, 1))


def test_union_of_aligned_branches() -> None:
    inception = Concat((Conv(1, (1, 1)), Conv(1, (3, 5), padding="SAME"), MaxPool((3, 3), 1, 1)))
    made = describe(Chain((inception, AvgPool((2, 2)))), (8, 8, 1))
    assert [x.field for x in made.layers if x.kind == "Concat"] == [Field((3, 5), (1, 1), (1, 2))]
    assert made.field == Field((4, 6), (2, 2), (1, 2))


def test_the_head_sees_everything() -> None:
    model = Chain((Conv(1, 3), Flatten(), Dense(2)))
    assert [(x.name, x.field) for x in describe(model, (6, 1)).layers[1:]] == [("layers_2", None)]
    assert backward_field(model, (6, 1), layer="layers_2") == (frozenset(range(6)),)
    assert gradient_field(model, (6, 1), layer="layers_2").all()


class Reversed(nn.Module):
    """A layer that is not of `cnn.layers`, and drops a position."""

    def __call__(self, x: jax.Array) -> jax.Array:
        return x[:, :0:-1]


def test_an_unknown_layer_that_changes_the_map_sees_everything() -> None:
    model = Chain((Reversed(),))
    assert backward_field(model, (4, 1), layer="layers_0") == (frozenset(range(4)),)


@pytest.mark.slow
def test_layers_inside_branches_by_name() -> None:
    model = models.googlenet(width=1 / 16)
    name = "layers_10/branches_2/layers_2"  # the first 5×5
    made = {x.name: x for x in describe(model, (96, 96, 3)).layers}
    field = made[name].field
    assert field.size == (59, 59)  # 11 after the first pool, then 27 and, with stride 8, 4 · 8 more
    unit = (6, 6)  # 6 · 8 − (3 + 4 + 2 · 8) = 25
    assert hull(backward_field(model, (96, 96, 3), name, unit)) == field.of(unit)
    mask = gradient_field(model, (96, 96, 3), name, unit)
    assert np.flatnonzero(mask.any(0))[[0, -1]].tolist() == [25, 25 + 59 - 1]
