"""The layers of networks made elsewhere: names, kinds, costs, and what is not known."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from flax import nnx
from jax import lax
from jaxtyping import Array

from cnn.errors import InputError
from cnn.geometry import Field, Geometry, MisalignedError, describe, describe_function
from cnn.layers import (
    AdaptiveAvgPool,
    Chain,
    Conv,
    Dense,
    DenseSpatial,
    Flatten,
    GroupNorm,
    Permute,
    ReLU,
    Residual,
)
from cnn.ops.implementations import use
from tests.ablations.foreign import ResNet


def columns(found: Geometry) -> list[tuple[object, ...]]:
    """Return name, kind, parameters, multiply-accumulates and field size of each layer."""
    return [(x.name, x.kind, x.params, x.macs, x.field and x.field.size[0]) for x in found.layers]


def test_the_resnet_of_flax_by_hand() -> None:
    found = describe(ResNet(), (8, 8, 2), aligned=False)
    assert columns(found) == [
        ("stem", "Conv", 9 * 2 * 4 + 4, 64 * 9 * 2 * 4, 3),
        ("max_pool", "max_pool", 0, 0, 5),
        ("Block_0/Conv_0", "Conv", 9 * 16, 16 * 9 * 16, 9),
        ("Block_0/BatchNorm_0", "BatchNorm", 8, 0, 9),
        ("Block_0/Conv_1", "Conv", 9 * 16, 16 * 9 * 16, 13),
        ("Block_0/BatchNorm_1", "BatchNorm", 8, 0, 13),
        ("Block_0", "Block", 0, 0, 13),
        ("Block_1/Conv_0", "Conv", 9 * 4 * 6, 4 * 9 * 4 * 6, 17),
        ("Block_1/BatchNorm_0", "BatchNorm", 12, 0, 17),
        ("Block_1/Conv_1", "Conv", 9 * 36, 4 * 9 * 36, 25),
        ("Block_1/BatchNorm_1", "BatchNorm", 12, 0, 25),
        ("Block_1/conv_proj", "Conv", 4 * 6, 4 * 4 * 6, 13),
        ("Block_1/norm_proj", "BatchNorm", 12, 0, 13),
        ("Block_1", "Block", 0, 0, 25),
        ("sum", "sum", 0, 0, None),
        ("Dense_0", "Dense", 6 * 3 + 3, 6 * 3, None),
    ]
    made = ResNet().init(jax.random.key(0), jnp.ones((1, 8, 8, 2)))
    assert found.params == sum(leaf.size for leaf in jax.tree.leaves(made["params"]))


def test_flax_and_our_own_layers_in_one_chain() -> None:
    model = Chain((nn.Conv(16, (3, 3), 2), ReLU(), Conv(4, (3, 3)), nn.Dense(5)))
    found = describe(model, (9, 9, 3))
    assert columns(found) == [
        ("layers_0", "Conv", 9 * 3 * 16 + 16, 25 * 9 * 3 * 16, 3),
        ("layers_1", "ReLU", 0, 0, 3),
        ("layers_2", "Conv", 9 * 16 * 4 + 4, 9 * 9 * 16 * 4, 7),
        ("layers_3", "Dense", 4 * 5 + 5, 9 * 4 * 5, 7),
    ]


def nnx_network() -> tuple[nnx.GraphDef, nnx.State]:
    class Net(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.conv = nnx.Conv(2, 8, (3, 3), padding="VALID", rngs=rngs)
            self.head = nnx.Linear(8, 4, rngs=rngs)

        def __call__(self, x: Array) -> Array:
            return self.head(nnx.avg_pool(nnx.relu(self.conv(x)), (2, 2), (2, 2)).mean((1, 2)))

    return nnx.split(Net(nnx.Rngs(0)))


def test_nnx() -> None:
    graph, params = nnx_network()
    found = describe_function(lambda p, x: nnx.merge(graph, p)(x), params, (8, 8, 2))
    assert columns(found) == [
        ("conv", "conv", 9 * 2 * 8 + 8, 36 * 9 * 2 * 8, 3),
        ("sum_pool", "sum_pool", 0, 0, 4),
        ("sum", "sum", 0, 0, None),
        ("head", "dense", 8 * 4 + 4, 8 * 4, None),
    ]


def test_equinox() -> None:
    eqx = pytest.importorskip("equinox", reason="Equinox is not installed")
    conv = partial(eqx.nn.Conv2d, key=jax.random.key(0))
    pool = eqx.nn.MaxPool2d(3, 2)
    net = eqx.nn.Sequential(
        [conv(2, 4, 3, padding=1), eqx.nn.Lambda(jax.nn.relu), pool, conv(4, 3, 2)]
    )
    params, static = eqx.partition(net, eqx.is_array)
    found = describe_function(
        lambda p, x: jax.vmap(eqx.combine(p, static))(jnp.moveaxis(x, -1, 1)), params, (9, 9, 2)
    )
    names, _, trained, macs, sizes = zip(*columns(found), strict=True)
    assert names[0::2] == ("layers/0", "layers/3")
    assert trained == (9 * 2 * 4 + 4, 0, 4 * 4 * 3 + 3)
    assert macs == (81 * 9 * 2 * 4, 0, 9 * 4 * 4 * 3)
    assert sizes == (3, 5, 7)


def test_haiku() -> None:
    hk = pytest.importorskip("haiku", reason="Haiku is not installed")
    net = hk.without_apply_rng(
        hk.transform(lambda x: hk.Linear(3)(jax.nn.relu(hk.Conv2D(4, 3, stride=2)(x)).mean((1, 2))))
    )
    params = jax.eval_shape(net.init, jax.random.key(0), jnp.ones((1, 8, 8, 2)))
    found = describe_function(net.apply, params, (8, 8, 2))
    assert columns(found) == [
        ("conv2_d", "conv", 9 * 2 * 4 + 4, 16 * 9 * 2 * 4, 3),
        ("sum", "sum", 0, 0, None),
        ("linear", "dense", 4 * 3 + 3, 4 * 3, None),
    ]


class Twice(nn.Module):
    """A layer that runs twice."""

    @nn.compact
    def __call__(self, x: Array) -> Array:
        conv = nn.Conv(2, (3,))
        return conv(nn.relu(conv(x)))


def test_a_layer_that_runs_twice_costs_twice_and_has_its_parameters_once() -> None:
    found = describe(Twice(), (10, 2))
    assert columns(found) == [
        ("Conv_0", "Conv", 3 * 4 + 2, 10 * 3 * 4, 3),
        ("Conv_0#2", "Conv", 0, 10 * 3 * 4, 5),
    ]
    assert found.field_of("Conv_0#2", (4,)) == ((2, 6),)


def test_a_scan_costs_its_length() -> None:
    """Five steps with one kernel each: as five layers in a row."""

    def f(kernels: Array, x: Array) -> Array:
        def step(x: Array, kernel: Array) -> tuple[Array, None]:
            y = lax.conv_general_dilated(
                x, kernel, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC")
            )
            return jnp.tanh(y), None

        return lax.scan(step, x, kernels)[0]

    found = describe_function(f, jnp.ones((5, 3, 2, 2)), (20, 2))
    assert (found.params, found.macs) == (5 * 12, 5 * 20 * 12)
    assert found.field.size == (11,)


def test_parameters_without_layers_are_layers_of_their_own() -> None:
    conv = partial(lax.conv_general_dilated, dimension_numbers=("NHC", "HIO", "NHC"))

    def f(p: dict[str, Array], x: Array) -> Array:
        x = jax.nn.relu(conv(x, p["w1"], (1,), "VALID") + p["b1"])
        return conv(x, p["w2"], (2,), "VALID")

    shapes = {"w1": (3, 2, 4), "b1": (1, 1, 4), "w2": (3, 4, 5)}
    params = {name: jnp.ones(shape) for name, shape in shapes.items()}
    assert columns(describe_function(f, params, (9, 2))) == [
        ("w1", "conv", 24, 7 * 24, 3),
        ("b1", "add", 4, 0, 3),
        ("w2", "conv", 60, 3 * 60, 5),
    ]


def test_what_is_not_known_is_named_and_has_no_number() -> None:
    def f(w: Array, x: Array) -> Array:
        y = conv_of_3(w, x)
        return jnp.linalg.qr(y)[0] @ jnp.ones((2, 2))

    found = describe_function(f, jnp.ones((3, 2, 2)), (6, 2))
    assert [x.name for x in found.layers] == ["conv", "qr", "dense"]
    assert [x.unknown for x in found.layers] == ["", "qr", "qr"]
    assert [row[5] for row in found.rows()] == ["3", *["not known (qr)"] * 3]
    assert found.rows()[-1][4] == "not known"
    with pytest.raises(InputError, match="multiply-accumulates of layer qr are not known"):
        _ = found.macs
    with pytest.raises(InputError, match="layer dense is not known, because of qr"):
        found.field_of("dense", (0,))
    with pytest.raises(InputError, match="the field is not known from layer qr on: qr"):
        _ = found.receptive_field
    assert json.loads(found.to_json())["receptive_field"] is None


def conv_of_3(w: Array, x: Array) -> Array:
    return lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))


@pytest.mark.parametrize(
    ("combine", "kind", "size", "stride"),
    [
        (lambda y: y[:, 1:] - y[:, :-1], "sub", 4, 1),
        (lambda y: jnp.maximum(y[:, ::2], y[:, 1::2]), "max", 4, 2),
        (lambda y: y[:, :-2] + 2 * y[:, 1:-1] + y[:, 2:], "add", 5, 1),
        (lambda y: jnp.where(y[:, 3:] > 0, y[:, 3:], y[:, :-3]), "select_n", 6, 1),
    ],
)
def test_shifted_copies_of_a_map_that_meet_are_a_layer(
    combine: Callable[[Array], Array], kind: str, size: int, stride: int
) -> None:
    """By hand: 3 pixels, and as many more as the copies are shifted."""
    found = describe_function(lambda w, x: combine(conv_of_3(w, x)), jnp.ones((3, 2, 2)), (12, 2))
    assert [(x.kind, x.field) for x in found.layers] == [
        ("conv", Field((3,), (1,), (1,))),
        (kind, Field((size,), (stride,), (1,))),
    ]
    assert found.receptive_field == (size,)


def test_copies_that_are_not_shifted_are_none() -> None:
    """Nor is a gate by other channels, or a map less its mean, which is a sum over positions."""

    def f(w: Array, x: Array) -> Array:
        y = conv_of_3(w, x)
        y = y * jax.nn.sigmoid(y[..., ::-1]) + y**2
        return y - y.mean(1, keepdims=True)

    found = describe_function(f, jnp.ones((3, 2, 2)), (12, 2))
    assert [x.kind for x in found.layers] == ["conv", "sum"]


def test_where_units_have_different_fields_the_largest_counts() -> None:
    """The shift is circular: the first unit also sees the last pixels."""

    def f(w: Array, x: Array) -> Array:
        y = conv_of_3(w, x)
        return conv_of_3(w, y + jnp.roll(y, 2, 1)).mean(1)

    found = describe_function(f, jnp.ones((3, 2, 2)), (12, 2))
    assert [row[5] for row in found.rows()] == ["3", "≤ 12", "≤ 12", "all", "≤ 12"]
    assert found.receptive_field == (12,)
    assert not found.field.uniform
    assert found.field_of("conv#2", (5,)) == ((1, 7),)  # 3 to 7, and 1 to 5
    with pytest.raises(InputError, match="field must be that of a map, got Field"):
        found.field.of((5,))


def test_a_statistic_on_the_way_is_no_head() -> None:
    """By hand: a squeeze-and-excitation block leaves the field of its convolutions, 3 and 5."""

    def f(w: Array, x: Array) -> Array:
        y = conv_of_3(w, x)
        return conv_of_3(w, y * jax.nn.sigmoid(y.mean(1, keepdims=True))).mean(1)

    found = describe_function(f, jnp.ones((3, 2, 2)), (12, 2))
    assert [row[5] for row in found.rows()] == ["3", "all", "3 + all", "5 + all", "all", "5 + all"]
    assert found.receptive_field == (5,)
    assert [x.name for x in found.local] == ["conv", "mul", "conv#2"]


def decayed(y: Array) -> Array:
    """Return running sums in which each summand has half the weight of the next."""
    return lax.scan(lambda c, t: (c / 2 + t,) * 2, jnp.zeros((1, 2)), y.swapaxes(0, 1))[1]


@pytest.mark.parametrize(
    ("along", "kind"),
    [
        (lambda y: jnp.cumsum(y, 1), "cumsum"),
        (lambda y: lax.associative_scan(jnp.add, y, axis=1), "add"),
        (decayed, "scan"),
    ],
)
def test_a_running_sum_sees_all_before(along: Callable[[Array], Array], kind: str) -> None:
    """By hand: the last of 12 units sees all pixels, the first two of them."""
    found = describe_function(lambda w, x: along(conv_of_3(w, x)), jnp.ones((3, 2, 2)), (12, 2))
    assert found.layers[-1].kind == kind
    assert found.receptive_field == (12,)
    assert found.macs == 12 * 12
    assert found.field_of(found.layers[-1].name, (0,)) == ((0, 1),)


def test_a_running_sum_of_the_pixels_is_a_layer_too() -> None:
    found = describe_function(lambda w, x: decayed(x), jnp.ones(1), (12, 2))
    assert [(x.kind, x.field) for x in found.layers] == [("scan", Field((12,), (0,), (0,), False))]


def test_the_layers_of_a_scan_are_none_of_the_scan_itself() -> None:
    def f(w: Array, x: Array) -> Array:
        return lax.scan(lambda y, one: (conv_of_3(one, y), None), x, w)[0]

    found = describe_function(f, jnp.ones((4, 3, 2, 2)), (12, 2))
    assert [x.kind for x in found.layers] == ["conv"]
    assert found.receptive_field == (9,)


def test_neighbours_that_become_channels_are_a_layer() -> None:
    """By hand: space to depth by 2 after windows of 3, 4 pixels every 2."""
    found = describe_function(
        lambda w, x: conv_of_3(w, x).reshape(1, 6, 4), jnp.ones((3, 2, 2)), (12, 2)
    )
    assert (found.layers[-1].kind, found.field) == ("reshape", Field((4,), (2,), (1,)))


@pytest.mark.parametrize("on_top", [(), (Conv(4, 1),)])
def test_windows_of_different_sizes_by_hand(on_top: tuple[nn.Module, ...]) -> None:
    """10 units that see 3 pixels each, in 4 windows of 3: 5 pixels."""
    model = Chain((Conv(4, 3), AdaptiveAvgPool((4,)), *on_top, Flatten(), Dense(2)))
    assert describe(model, (12, 1)).receptive_field == (5,)


def test_the_batch_is_the_first_axis_of_size_1() -> None:
    """Resizing contracts the positions first, and its product has the batch behind them."""
    found = describe_function(
        lambda w, x: jax.image.resize(x, (1, 40, 2), "linear"), jnp.ones(1), (20, 2)
    )
    assert [x.shape for x in found.layers] == [(40, 2)]


def test_a_statistic_of_the_whole_map_is_said_beside_the_field() -> None:
    found = describe(Chain((Conv(4, 3, padding=1), GroupNorm(2), Conv(4, 3, padding=1))), (12, 1))
    assert [(x.field and x.field.size, x.besides) for x in found.layers] == [
        ((3,), ""),
        ((3,), "all"),
        ((5,), "all"),
    ]
    assert [row[5] for row in found.rows()] == ["3", "3 + all", "5 + all", "5 + all"]


def test_a_statistic_of_a_part_of_the_map_is_said_too() -> None:
    """Every unit also sees the first four pixels."""

    def f(w: Array, x: Array) -> Array:
        y = lax.conv_general_dilated(x, w, (1,), "SAME", dimension_numbers=("NHC", "HIO", "NHC"))
        return y * x[:, :4].mean(1, keepdims=True)

    found = describe_function(f, jnp.ones((3, 2, 2)), (9, 2))
    assert found.rows()[-2][5] == "3 + more"


@pytest.mark.parametrize("mode", ["zeros", "reflect", "replicate", "circular"])
def test_a_border_changes_no_field(mode: str) -> None:
    found = describe(Chain((Conv(2, 5, padding=2, padding_mode=mode), Conv(2, 3))), (9, 1))
    assert found.layers[-1].field == ((7,), (1,), (2,), True)
    assert found.layers[-1].besides == ""


def test_jnp_pad_is_a_border_too() -> None:
    found = describe(nn.Conv(2, (5, 5), padding="CIRCULAR"), (9, 9, 1))
    assert found.field == ((5, 5), (1, 1), (2, 2), True)


def test_it_is_the_same_while_jax_traces_another_program() -> None:
    """With indices and masks that are computed on the way, and any implementation selected."""
    order = (*range(1, 64), 0)
    model = Chain((Permute(order), DenseSpatial(2, 3, radius=1), ReLU(), Conv(2, (3, 3), 2)))
    shape = (8, 8, 1)
    found = describe(model, shape)
    inside: list[Geometry] = []

    @jax.jit
    def f(x: Array) -> Array:
        inside.append(describe(model, shape))
        return jax.vmap(lambda y: inside.append(describe(model, shape)) or y)(x)

    with use("fastest"):
        f(jnp.ones(3))
    assert inside == [found, found]


def test_bad_input() -> None:
    with pytest.raises(InputError, match=r"model must be a Linen module, got .*: use describe"):
        describe(nn.Dense, (4, 1))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="a shape or a branch of the function depends on data"):
        describe_function(lambda _, x: x[x > 0], {}, (4, 1))
    with pytest.raises(InputError, match="params must hold arrays alone, got 'relu' at act"):
        describe_function(lambda p, x: x, {"act": "relu"}, (4, 1))
    with pytest.raises(InputError, match=r"unit must be a position on the map, got \(9,\)"):
        describe(Residual(Dense(1)), (4, 1)).field_of("body", (9,))


def test_a_mirrored_map() -> None:
    """Unit p sees the pixel at 7 − 2 p, and that at 1 + 2 p."""

    def f(_: object, x: Array) -> Array:
        mirrored = lax.reduce_window(x[:, ::-2], 0.0, lax.add, (1, 1, 1), (1, 1, 1), "VALID")
        straight = lax.reduce_window(x[:, 1::2], 0.0, lax.add, (1, 1, 1), (1, 1, 1), "VALID")
        return mirrored + straight

    found = describe_function(f, {}, (8, 1), aligned=False)
    assert found.layers[0].field == ((1,), (-2,), (-7,), True)
    units = [found.field_of("add", (p,)) for p in range(4)]
    assert units == [((1, 7),), ((3, 5),), ((3, 5),), ((1, 7),)]
    with pytest.raises(MisalignedError, match=r"stride \(-2,\), centre \(7.0,\) and stride \(2,\)"):
        describe_function(f, {}, (8, 1))
