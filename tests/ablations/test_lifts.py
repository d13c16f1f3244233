"""A lift keeps the function; a projection of it returns the weights that were lifted."""

from __future__ import annotations

from functools import partial
from typing import Any

import hypothesis
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from hypothesis import strategies as st

from cnn import ablations, models
from cnn.ablations import lift, project
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
    Flatten,
    MaxPool,
    ReLU,
    Residual,
    SeparableConv,
)


def variables(model: nn.Module, x: jax.Array) -> dict[str, Any]:
    """Return random weights and biases, and positive running statistics."""
    made = model.init(jax.random.key(0), x)
    leaves, structure = jax.tree.flatten(made)
    keys = jax.random.split(jax.random.key(1), len(leaves))
    noise = [
        0.1 * jnp.abs(jax.random.normal(k, v.shape)) for k, v in zip(keys, leaves, strict=True)
    ]
    return jax.tree.map(jnp.add, made, jax.tree.unflatten(structure, noise))


def assert_same_function(
    source: nn.Module, before: Any, target: nn.Module, after: Any, x: jax.Array
) -> None:
    """Compare outputs, and the gradient of half their squares with respect to the input."""

    @partial(jax.jit, static_argnums=0)
    def run(model: nn.Module, weights: Any) -> tuple[jax.Array, jax.Array]:
        y, back = jax.vjp(lambda x: model.apply(weights, x), x)
        return y, back(y)[0]

    for ours, theirs in zip(run(source, before), run(target, after), strict=True):
        scale = float(jnp.abs(ours).max())
        np.testing.assert_allclose(theirs / scale, ours / scale, atol=1e-5)


def assert_close(a: Any, b: Any) -> None:
    jax.tree.map(lambda p, q: np.testing.assert_allclose(p, q, rtol=1e-5, atol=1e-6), a, b)


def check_ladder(
    model: nn.Module, shape: tuple[int, ...], rungs: list[nn.Module], all_seen: bool = True
) -> None:
    """Lift `model` to each of the `rungs` and through all of them, and project it back.

    On maps so small that some weights only ever see padding, not `all_seen`, the projection has
    zeros for these, and the same function.
    """
    x = jax.random.normal(jax.random.key(2), (2, *shape))
    first = variables(model, x)
    for rung in rungs:
        lifted = lift(first, model, rung, shape)
        expected = jax.eval_shape(rung.init, jax.random.key(0), x)
        assert jax.tree.map(jnp.shape, lifted) == jax.tree.map(jnp.shape, expected)
        assert_same_function(model, first, rung, lifted, x)
        back = project(lifted, rung, model, shape)
        if all_seen:
            assert_close(back, first)
        else:
            assert_close(lift(back, model, rung, shape), lifted)
    weights, above = first, model
    for rung in rungs if len(rungs) > 2 else []:
        weights, above = lift(weights, above, rung, shape), rung
    if len(rungs) > 2:
        assert_close(weights, lifted)


ZOO = {
    "cnn1d": (models.cnn1d(channels=3), (40, 1)),
    "lenet5": (models.lenet5(channels=(2, 3), hidden=(6,)), (20, 20, 1)),
    "lecture_cnn": (models.lecture_cnn(channels=(2, 3), hidden=6), (20, 20, 1)),
    "small_vgg": (models.small_vgg(channels=(2, 3), hidden=4, norm="batch"), (8, 8, 3)),
    "small_inception": (models.small_inception(width=1 / 16, norm="none"), (16, 16, 3)),
    "separable_net": (models.separable_net(width=1 / 8), (9, 9, 3)),
    "full_conv": (models.full_conv(channels=(3, 4), padding_mode="reflect", padding=1), (8, 8, 3)),
    "s_conv": (models.s_conv(alpha=1), (12, 12, 3)),
}
LARGE = {
    "alexnet": (models.alexnet(10, width=0.02), (63, 63, 3)),
    "vgg11": (models.vgg11(10, width=0.02, norm="batch"), (32, 32, 3)),
    "googlenet": (models.googlenet(10, width=1 / 32), (33, 33, 3)),
    "resnet18": (models.resnet18(10, width=1 / 32), (33, 33, 3)),
    "mobilenet_v1": (models.mobilenet_v1(10, width=1 / 16), (33, 33, 3)),
    "xception": (models.xception(10, width=1 / 32, middle=1), (71, 71, 3)),
    "d_conv": (models.d_conv(alpha=1), (16, 16, 3)),
}


MIXED = Chain(
    (
        Conv(2, (3,), padding=1, padding_mode="circular"),
        BatchNorm(),
        ReLU(),
        Concat((Conv(2, (1,)), Chain((MaxPool((3,), 1, 1), Conv(2, (4,), padding=((1, 2),)))))),
        Residual(Conv(4, (3,), padding="SAME", groups=2)),
        Conv(3, (3,), strides=2, dilation=2),
        Flatten(),
        Dense(3),
    )
)


@pytest.mark.slow
def test_the_whole_ladder_of_a_network() -> None:
    rungs = [ablations.tile(MIXED, 2), ablations.unshare(MIXED)]
    rungs += [ablations.localize(MIXED, 2), ablations.densify(MIXED)]
    check_ladder(MIXED, (12, 1), rungs)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*ZOO, *LARGE])
def test_the_whole_ladder_of_every_network(name: str) -> None:
    model, shape = (ZOO | LARGE)[name]
    rungs = [ablations.unshare(model), ablations.densify(model)]
    if name in ("cnn1d", "lenet5", "full_conv", "lecture_cnn"):  # larger maps than the period
        rungs[:0] = [ablations.tile(model, 2)]
        rungs[2:2] = [ablations.localize(model, 2), ablations.localize(model, 3)]
    check_ladder(model, shape, rungs, all_seen=name not in ("googlenet", "d_conv"))


@st.composite
def drawn_layers(draw: st.DrawFn) -> tuple[Conv, tuple[int, ...]]:
    rank = draw(st.integers(1, 2))
    mode = draw(st.sampled_from(["zeros", "reflect", "replicate", "circular"]))
    groups = draw(st.integers(1, 2))
    layer = Conv(
        2 * groups,
        tuple(draw(st.integers(1, 3)) for _ in range(rank)),
        draw(st.integers(1, 2)),
        draw(st.sampled_from(["VALID", "SAME", 1])),
        mode,
        dilation=draw(st.integers(1, 2)),
        groups=groups,
        use_bias=draw(st.booleans()),
    )
    size = tuple(draw(st.integers(7, 9)) for _ in range(rank))
    return layer, (*size, groups)


@hypothesis.given(drawn_layers())
@hypothesis.settings(max_examples=2)
def test_random_layers(drawn: tuple[Conv, tuple[int, ...]]) -> None:
    layer, shape = drawn
    check_ladder(layer, shape, [ablations.unshare(layer), ablations.densify(layer)])


@pytest.mark.slow
@hypothesis.given(drawn_layers(), st.integers(1, 2))
@hypothesis.settings(max_examples=20)
def test_the_whole_ladder_of_random_layers(
    drawn: tuple[Conv, tuple[int, ...]], period: int
) -> None:
    layer, shape = drawn
    rungs = [ablations.tile(layer, period), ablations.tile(layer, 2), ablations.unshare(layer)]
    rungs += [ablations.localize(layer, 2), ablations.densify(layer)]
    check_ladder(layer, shape, rungs)


def test_projection_is_the_least_squares_map_by_hand() -> None:
    """Local kernels of two taps at three positions; their mean, and the mean of their biases."""
    local = {"kernel": jnp.array([[1.0, 2], [3, 4], [8, 9]]).reshape(3, 2, 1, 1)}
    local |= {"bias": jnp.array([[1.0], [2.0], [6.0]])}
    source, conv = ConvLocal(1, (2,)), Conv(1, (2,))
    down = project({"params": local}, source, conv, (4, 1))["params"]
    np.testing.assert_allclose(down["kernel"].ravel(), [4, 5])
    np.testing.assert_allclose(down["bias"], [3])
    tiled = project({"params": local}, source, ConvTiled(1, (2,), period=2), (4, 1))["params"]
    np.testing.assert_allclose(tiled["kernel"].reshape(2, 2), [[4.5, 5.5], [3, 4]])
    np.testing.assert_allclose(tiled["bias"], [[3.5], [2]])
    # From dense: the means of the diagonals; what is far from them goes.
    dense = jnp.array([[1.0, 7, 7], [2, 3, 7], [7, 4, 8], [7, 7, 9]]).reshape(4, 1, 3, 1)
    made = {"params": {"kernel": dense, "bias": local["bias"]}}
    down = project(made, DenseSpatial(1, (2,)), conv, (4, 1))["params"]
    np.testing.assert_allclose(down["kernel"].ravel(), [4, 5], rtol=1e-6)


def test_projection_is_orthogonal() -> None:
    """The rest is orthogonal to every lift, also where reflection repeats an input."""
    conv = Conv(2, (3,), padding=1, padding_mode="reflect", use_bias=False)
    dense = ablations.densify(conv)
    x = jnp.zeros((1, 5, 1))
    random = dense.init(jax.random.key(0), x)
    nearest = lift(project(random, dense, conv, (5, 1)), conv, dense, (5, 1))
    rest = random["params"]["kernel"] - nearest["params"]["kernel"]
    other = lift(conv.init(jax.random.key(1), x), conv, dense, (5, 1))["params"]["kernel"]
    assert abs(float((rest * other).sum())) < 1e-5
    assert float(jnp.abs(rest).max()) > 0.1


def test_weights_that_see_only_padding_are_lost_through_a_dense_layer() -> None:
    local = ConvLocal(1, (3,), padding=1, use_bias=False)
    dense = ablations.densify(local)
    ones = {"params": {"kernel": jnp.ones((3, 3, 1, 1))}}
    back = project(lift(ones, local, dense, (3, 1)), dense, local, (3, 1))
    np.testing.assert_allclose(
        back["params"]["kernel"].reshape(3, 3), [[0, 1, 1], [1, 1, 1], [1, 1, 0]], atol=1e-6
    )


def test_a_lift_repeats_the_period_by_hand() -> None:
    tiled = {"kernel": jnp.array([1.0, 2, 3]).reshape(3, 1, 1, 1), "bias": jnp.zeros((3, 1))}
    source, target = ConvTiled(1, (1,), period=3), ConvLocal(1, (1,))
    up = lift({"params": tiled}, source, target, (5, 1))["params"]
    np.testing.assert_array_equal(up["kernel"].ravel(), [1, 2, 3, 1, 2])
    up = lift({"params": tiled}, source, ablations.tile(source, 7), (4, 1))["params"]
    np.testing.assert_array_equal(up["kernel"].ravel(), [1, 2, 3, 1])


def test_a_tied_bias_and_a_clipped_period() -> None:
    """From tied to untied biases, and on a map of 4 from a period of 3 to one of 5."""
    conv = Conv(2, (3,))
    rungs = [ablations.tile(conv, 3, bias="tied"), ablations.tile(conv, 5, bias="tied")]
    rungs += [ablations.unshare(conv, bias="tied"), ablations.unshare(conv)]
    check_ladder(conv, (6, 1), rungs)


def test_other_variables_are_kept_as_they_are() -> None:
    model = models.small_vgg(channels=(2,), hidden=2, norm="batch")
    made = variables(model, jnp.zeros((1, 6, 6, 1)))
    lifted = lift(made, model, ablations.unshare(model), (6, 6, 1))
    assert lifted["batch_stats"] is made["batch_stats"]
    assert_close(lifted["params"]["layers_1"], made["params"]["layers_1"])


CONV = Chain((Conv(2, (3,), padding=1), ReLU(), Conv(2, (3,)), Dense(3)))


@pytest.mark.parametrize(
    ("source", "target", "message"),
    [
        (ablations.unshare(CONV), CONV, "layers_0: .* Conv has more bias than ConvLocal"),
        (
            CONV,
            ablations.rewindow(ablations.unshare(CONV), (5,)),
            "layers_0: .* must be the same, got",
        ),
        (CONV, ablations.unshare(CONV).clone(layers=CONV.layers[:2]), "only one .* layers_2"),
        (CONV, models.mlp(), "only one of them has layers_4"),
        (
            ablations.tile(CONV, 2),
            ablations.tile(CONV, 3),
            r"period must be a multiple of \(2,\), got \(3,\)",
        ),
        (
            ablations.unshare(CONV),
            ablations.unshare(CONV, bias="tied"),
            "layers_0: .* bias must be 'untied', as in the layer with more bias, got 'tied'",
        ),
        (ablations.tile(CONV, 2), ablations.localize(CONV, 0), "radius must cover .* got 0"),
        (ablations.densify(CONV), ablations.localize(CONV, 5), "radius must cover .* got 5"),
        (
            CONV,
            CONV.clone(layers=(*CONV.layers[:3], Dense(4))),
            "layer layers_3: .* features: 3 is not 4",
        ),
        (SeparableConv(2, (3,)), Conv(2, (3,)), "layer: 'SeparableConv' is not 'Conv'"),
    ],
)
def test_models_that_cannot_be_lifted(source: nn.Module, target: nn.Module, message: str) -> None:
    made = source.init(jax.random.key(0), jnp.zeros((1, 8, 2)))
    with pytest.raises(InputError, match=message) as error:
        lift(made, source, target, (8, 2))
    assert "\n" not in str(error.value)
