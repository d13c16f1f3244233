"""Every ablation changes what it says and nothing else."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations, data, models, ops
from cnn.errors import InputError, LayerError
from cnn.geometry import trace
from cnn.layers import (
    AvgPool,
    BlurPool,
    Chain,
    Conv,
    ConvLocal,
    ConvTiled,
    Dense,
    DenseSpatial,
    Flatten,
    MaxPool,
    Permute,
    ReLU,
)
from cnn.layers.tree import leaves

ORDER = tuple(np.random.default_rng(0).permutation(33 * 33).tolist())

ALL: dict[str, Callable[[nn.Module], nn.Module]] = {
    "unshare": ablations.unshare,
    "tile": lambda model: ablations.tile(model, 2),
    "share": ablations.share,
    "densify": ablations.densify,
    "localize": lambda model: ablations.localize(model, 1),
    "rewindow": lambda model: ablations.rewindow(model, (5, 5)),
    "rewindow-1": lambda model: ablations.rewindow(model, (1, 1)),
    "dilate": lambda model: ablations.dilate(model, 2),
    "separate": ablations.separate,
    "group": lambda model: ablations.group(model, 2, where=lambda name, _: name != "layers_0"),
    "factorize": ablations.factorize,
    "factorize-relu": lambda model: ablations.factorize(model, ReLU()),
    "bottleneck": lambda model: ablations.bottleneck(model, 3),
    "repad": lambda model: ablations.repad(model, mode="circular"),
    "repad-full": lambda model: ablations.repad(model, padding="FULL"),
    "repool-max": lambda model: ablations.repool(model, "max"),
    "repool-avg": lambda model: ablations.repool(model, "avg"),
    "repool-blur": lambda model: ablations.repool(model, "blur"),
    "repool-stride": lambda model: ablations.repool(model, "stride"),
    "repool-none": lambda model: ablations.repool(model, "none"),
    "pool_window": lambda model: ablations.pool_window(model, 3),
    "permute_input": lambda model: ablations.permute_input(model, ORDER),
}
KEEPS_SIZES = set(ALL) - {"repad", "repad-full", "repool-none"}

ZOO = {
    "lenet5": models.lenet5(),
    "lecture_cnn": models.lecture_cnn(),
    "alexnet": models.alexnet(10, width=0.03),
    "vgg11": models.vgg11(10, width=0.02, norm="batch"),
    "small_vgg": models.small_vgg(channels=(4, 4), hidden=8),
    "googlenet": models.googlenet(10, width=1 / 16),
    "resnet18": models.resnet18(10, width=1 / 16),
    "separable_net": models.separable_net(width=1 / 8),
    "xception": models.xception(10, width=1 / 16, middle=1),
    "full_conv": models.full_conv(channels=(4, 4)),
}
SIZES = {"alexnet": 67, "xception": 71}
# What cannot be, and what is said then.
IMPOSSIBLE = {
    ("tile", "googlenet"): "layer layers_19/branches_0/layers_0: period 2 .* output size 1",
    ("group", "googlenet"): "layer layers_10/branches_2/layers_0: groups 2 .* features 1",
    ("group", "vgg11"): "layer layers_4: groups 2 does not divide features 3",
    ("bottleneck", "separable_net"): "layer layers_3: groups 4 count input channels",
    ("bottleneck", "xception"): "layer layers_6/body/layers_0/layers_1: groups 4 count input",
    ("repad", "googlenet"): "layer layers_19/.*circular padding 2 exceeds 1",
    ("repad-full", "googlenet"): "layer layers_10: Concat end in different sizes",
    ("repad-full", "resnet18"): "layer layers_4: Residual adds shapes",
    ("repad-full", "xception"): "layer layers_6: Residual adds shapes",
    ("repool-none", "xception"): "layer layers_6: Residual adds shapes",
    **{
        ("repool-blur", name): "layer .*: reflect padding 1 exceeds 0 on axis 1 of size 1"
        for name in ("alexnet", "vgg11", "googlenet")
    },
    **{
        (pooling, name): "the model has no layer that this ablation changes"
        for pooling in ALL
        if "pool" in pooling
        for name in ("separable_net", "full_conv")
    },
}


def input_shape(name: str) -> tuple[int, int, int]:
    size = SIZES.get(name, 33)
    return size, size, 3


def output(model: nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    x = jax.ShapeDtypeStruct((1, *shape), jnp.float32)
    made = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    result: tuple[int, ...] = made[0].shape
    return result


@pytest.mark.slow
@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("ablation", ALL)
def test_every_network_under_every_ablation(ablation: str, name: str) -> None:
    shape = input_shape(name)
    before = repr(ZOO[name])
    if (ablation, name) in IMPOSSIBLE:
        with pytest.raises(InputError, match=IMPOSSIBLE[ablation, name]) as error:
            output(ALL[ablation](ZOO[name]), shape)
        assert "\n" not in str(error.value)
    elif ablation != "permute_input" or shape[0] == 33:
        changed = ALL[ablation](ZOO[name])
        assert output(changed, shape) == output(ZOO[name], shape)
    assert repr(ZOO[name]) == before


SMALL = {
    "lenet5": models.lenet5(channels=(2, 4), hidden=(4,)),
    "resnet18": models.resnet18(10, width=1 / 16),
    "small_inception": models.small_inception(width=1 / 8, norm="none"),
}


@pytest.mark.parametrize("name", SMALL)
@pytest.mark.parametrize("ablation", ["unshare", "densify", "rewindow", "dilate", "pool_window"])
def test_maps_keep_their_sizes(ablation: str, name: str) -> None:
    shape = (24, 24, 3)
    before, after = trace(SMALL[name], shape), trace(ALL[ablation](SMALL[name]), shape)
    assert all(after[path].output == seen.output for path, seen in before.items())
    assert output(ALL[ablation](SMALL[name]), shape) == (1, 10)


CONV = Conv(3, (5,), strides=2, padding=2, padding_mode="reflect", use_bias=False, scale=0.5)


def test_sharing_is_a_class_and_all_else_is_kept() -> None:
    fields = {"strides": 2, "padding": 2, "padding_mode": "reflect", "use_bias": False}
    local = ConvLocal(3, (5,), **fields, scale=0.5)
    assert ablations.unshare(CONV) == local
    assert ablations.tile(CONV, 3) == ConvTiled(3, (5,), **fields, scale=0.5, period=3)
    assert ablations.share(local) == CONV
    model = Chain((CONV, ReLU(), CONV))
    assert ablations.share(ablations.tile(ablations.unshare(model), 2)) == model


def test_densify_and_localize_keep_the_sizes_only() -> None:
    dense = DenseSpatial(3, (5,), strides=2, padding=2, use_bias=False, scale=0.5)
    assert ablations.densify(CONV) == dense
    assert ablations.localize(CONV, 2) == dense.clone(radius=2)
    assert ablations.densify(ablations.localize(CONV, 2)) == dense
    around = ablations.localize(CONV.clone(padding_mode="circular"), 2)
    assert around == dense.clone(radius=2, padding_mode="circular")


def test_localized_dense_layer_sees_what_is_near_and_nothing_else() -> None:
    layer = DenseSpatial(1, (3,), strides=2, padding=1, radius=1)
    x = jnp.zeros((1, 6, 1))
    ones = jax.tree.map(jnp.ones_like, layer.init(jax.random.key(0), x))
    moves = jax.jacobian(lambda x: layer.apply(ones, x[None, :, None])[0, :, 0])(jnp.zeros(6))
    # centres 0, 2, 4
    np.testing.assert_array_equal(
        moves, [[1, 1, 0, 0, 0, 0], [0, 1, 1, 1, 0, 0], [0, 0, 0, 1, 1, 1]]
    )
    around = layer.clone(padding_mode="circular").apply
    moves = jax.jacobian(lambda x: around(ones, x[None, :, None])[0, :, 0])(jnp.zeros(6))
    np.testing.assert_array_equal(moves[0], [1, 1, 0, 0, 0, 1])
    # A window of 4 has its centre between two positions: 1.5, then 3.5.
    even = DenseSpatial(1, (4,), strides=2, radius=1)
    ones = jax.tree.map(jnp.ones_like, even.init(jax.random.key(0), x))
    moves = jax.jacobian(lambda x: even.apply(ones, x[None, :, None])[0, :, 0])(jnp.zeros(6))
    np.testing.assert_array_equal(moves, [[0, 1, 1, 0, 0, 0], [0, 0, 0, 1, 1, 0]])


@pytest.mark.parametrize("radius", [None, 0, 1, 2, 9])
def test_localized_dense_layer_starts_with_unit_variance(radius: int | None) -> None:
    """One draw of 40,000 unit inputs and weights: 1 ± 3 · √2/200."""
    layer = DenseSpatial(200, (3,), padding=1, scale=1.0, use_bias=False, radius=radius)
    x = jnp.ones((1, 9, 20))
    y = layer.apply(layer.init(jax.random.key(1), x), x)
    middle = y[0, 4]  # whose window does not reach over the border
    assert abs(float(middle.var()) - 1) < 0.3


def embedded(window: int, taps: list[float]) -> jnp.ndarray:
    """A kernel of `window` taps that is zero but for `taps` in its middle."""
    kernel = np.zeros((window, 1, 1), np.float32)
    start = (window - len(taps)) // 2
    kernel[start : start + len(taps), 0, 0] = taps
    return jnp.asarray(kernel)


@pytest.mark.parametrize(
    ("padding", "strides", "mode"),
    [
        *itertools.product(["VALID", "FULL", 1, ((3, 2),)], [1, 2], ["zeros", "circular"]),
        ("SAME", 1, "zeros"),  # under a stride it places windows by its own rule
        *[(((2, 0),), 2, mode) for mode in ("zeros", "circular")],
    ],
)
def test_another_window_has_the_same_centre(padding: ops.Padding, strides: int, mode: str) -> None:
    """Kernels that are zero but for their middle compute the same, whatever the window."""
    layer = Conv(1, (5,), strides, padding, mode, use_bias=False)  # type: ignore[arg-type]
    x = jax.random.normal(jax.random.key(0), (2, 12, 1))

    def run(model: nn.Module, kernel: jnp.ndarray) -> jnp.ndarray:
        made = jax.eval_shape(model.init, jax.random.key(0), x)
        return model.apply(jax.tree.map(lambda _: kernel, made), x)

    for taps, windows in (([2.0], (1, 3, 7)), ([1.0, 2.0, 3.0], (3, 7, 9))):
        expected = run(layer, embedded(5, taps))
        for window in windows:
            changed = ablations.rewindow(layer, (window,))
            got = run(changed, embedded(window, taps))
            np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)
    spread = embedded(5, [1.0, 0.0, 2.0, 0.0, 3.0])
    dilated = ablations.dilate(ablations.rewindow(layer, (3,)), 2)
    got = run(dilated, embedded(3, [1, 2, 3]))
    np.testing.assert_allclose(got, run(layer, spread), rtol=1e-5, atol=1e-6)


def test_rewindow_crops_where_there_is_no_padding_to_take_away() -> None:
    assert ablations.rewindow(Conv(1, (5,), padding=2), (3,)) == Conv(1, (3,), padding=((1, 1),))
    assert ablations.rewindow(Conv(1, (5,)), (3,)) == Conv(1, (3,), padding=((-1, -1),))
    with pytest.raises(LayerError, match="window 3 does not say for how many axes"):
        ablations.rewindow(Conv(1, 3), 5)
    with pytest.raises(LayerError, match="DenseSpatial cannot be changed"):
        ablations.rewindow(DenseSpatial(1, (3,)), (5,))


@pytest.mark.parametrize(
    "layer",
    [
        Conv(1, (7,), use_bias=False),
        Conv(1, (7,), padding=3, use_bias=False),
        Conv(1, (7,), padding="SAME", use_bias=False),
        Conv(1, (7,), padding="FULL", use_bias=False),
        Conv(1, (7,), strides=2, padding=((3, 1),), use_bias=False),
        Conv(1, (7,), padding=3, padding_mode="circular", use_bias=False),
        Conv(1, (7,), padding=6, dilation=2, padding_mode="reflect", use_bias=False),
    ],
    ids=["valid", "padded", "same", "full", "strided", "circular", "dilated"],
)
def test_a_linear_stack_of_threes_is_one_large_window(layer: Conv) -> None:
    """The product of three polynomials of degree 2, its coefficients by `numpy.convolve`."""
    stack = ablations.factorize(layer)
    assert [part.window for part in stack.layers] == [(3,)] * 3
    x = jax.random.normal(jax.random.key(0), (2, 20, 1))
    made = stack.init(jax.random.key(1), x)
    factors = [np.asarray(made["params"][f"layers_{i}"]["kernel"]).ravel() for i in range(3)]
    product = np.convolve(np.convolve(factors[0], factors[1]), factors[2])
    whole = layer.apply({"params": {"kernel": jnp.asarray(product).reshape(7, 1, 1)}}, x)
    np.testing.assert_allclose(stack.apply(made, x), whole, atol=1e-5)


def test_factors() -> None:
    five = Conv(2, (5, 5), strides=2, padding="SAME")
    assert ablations.factorize(five, ReLU()) == Chain(
        (five.clone(window=(3, 3), strides=1), ReLU(), five.clone(window=(3, 3)))
    )
    assert ablations.factorize(Conv(2, (5, 1)), ReLU()).layers[0].window == (3, 1)
    assert ablations.factorize(Conv(2, (3, 3))) == Conv(2, (3, 3))
    with pytest.raises(LayerError, match="window \\(4,\\) is even"):
        ablations.factorize(Conv(2, (4,)))
    with pytest.raises(LayerError, match="layer layers_0: ConvLocal cannot"):
        ablations.factorize(Chain((ConvLocal(2, (5,)),)))
    x = jnp.zeros((1, 8, 8, 16))

    def weights(model: nn.Module) -> int:
        return sum(leaf.size for leaf in jax.tree.leaves(model.init(jax.random.key(0), x)))

    lecture = Conv(32, (3, 3), use_bias=False)
    assert weights(ablations.separate(lecture)) == 656  # of 4,608
    assert weights(ablations.separate(lecture, 2)) == 1312
    assert weights(ablations.group(lecture, 4)) == 4608 // 4
    assert weights(ablations.bottleneck(lecture, 4)) == 16 * 4 + 9 * 4 * 32
    assert weights(ablations.bottleneck(lecture, 4, ReLU())) == 16 * 4 + 4 + 9 * 4 * 32
    assert ablations.separate(Conv(8, (1, 1))) == Conv(8, (1, 1))
    depthwise = Conv(16, (3, 3), groups=16)
    assert ablations.separate(depthwise) == depthwise
    with pytest.raises(LayerError, match="layer layers_0: groups 2 stand in the way"):
        ablations.separate(Chain((Conv(8, (3, 3), groups=2),)))


SIGNAL = jnp.array([0.0, 4.0, 8.0, 2.0, 6.0, 2.0, 1.0])[None, :, None]
POOLED = {
    "max": [8, 8, 6],
    "avg": [4, 16 / 3, 3],
    "stride": [4, 2, 2],
    # largest of 3 at stride 1: 8 8 8 6 6; then (1 2 1)/4, mirrored, at 0, 2, 4
    "blur": [8, 7.5, 6],
    "none": [0, 4, 8, 2, 6, 2, 1],
}


@pytest.mark.parametrize("kind", POOLED)
def test_pooling_by_hand(kind: ablations.Pooling) -> None:
    pool = ablations.repool(MaxPool((3,), strides=2), kind)
    np.testing.assert_allclose(pool.apply({}, SIGNAL).ravel(), POOLED[kind], rtol=1e-6)


def test_pooling_from_each_to_each_keeps_the_size() -> None:
    x = jnp.ones((1, 9, 9, 2))
    for start in (MaxPool((2, 2)), AvgPool((3, 3), 2, padding=1), BlurPool()):
        size = start.apply({}, x).shape
        for kind in ("max", "avg", "stride", "blur"):
            assert ablations.repool(start, kind).apply({}, x).shape == size
    assert ablations.pool_window(MaxPool((2, 2)), 3).apply({}, x).shape == (1, 4, 4, 2)
    assert ablations.pool_window(BlurPool(), 5) == BlurPool(5)
    with pytest.raises(LayerError, match="dilation 2 is known to max-pooling only"):
        ablations.repool(MaxPool(2, dilation=2), "avg")
    with pytest.raises(InputError, match="unknown pooling 'mean'"):
        ablations.repool(MaxPool(2), "mean")  # type: ignore[arg-type]


def test_overlapping_windows_by_hand() -> None:
    wide = ablations.pool_window(MaxPool((1,), strides=2), 3)
    np.testing.assert_array_equal(wide.apply({}, SIGNAL).ravel(), [4, 8, 6, 2])


def test_repad() -> None:
    assert ablations.repad(CONV, mode="zeros") == CONV.clone(padding_mode="zeros")
    assert ablations.repad(CONV, padding="FULL") == CONV.clone(padding="FULL")
    with pytest.raises(InputError, match="repad changes nothing: give mode, or padding"):
        ablations.repad(CONV)
    with pytest.raises(LayerError, match="DenseSpatial cannot be changed"):
        ablations.repad(DenseSpatial(1, 3), mode="circular")


def test_permuted_input() -> None:
    model = ablations.permute_input(Chain((Flatten(),)), [2, 0, 1])
    assert model == Chain((Permute((2, 0, 1)), Chain((Flatten(),))))
    x = jnp.array([[[1.0], [2.0], [3.0]]])
    np.testing.assert_array_equal(model.apply({}, x), [[3, 1, 2]])
    data_set = data.load("digits")
    order = data.permutation((8, 8), seed=1, block=4)
    moved = data.permute(data_set, order).test.x[:3]
    as_layer = Permute(tuple(order.tolist())).apply({}, jnp.asarray(data_set.test.x[:3]))
    np.testing.assert_array_equal(as_layer, moved)
    with pytest.raises(LayerError, match="layer layers_0: order of length 3 is no permutation"):
        model.init(jax.random.key(0), jnp.zeros((1, 4, 1)))


def test_where() -> None:
    model = Chain((Conv(1, (3,)), Chain((Conv(2, (3,)), ReLU())), Flatten(), Dense(3)))
    local = Chain((Conv(1, (3,)), Chain((ConvLocal(2, (3,)), ReLU())), Flatten(), Dense(3)))
    assert list(leaves(model)) == [
        "layers_0",
        "layers_1/layers_0",
        "layers_1/layers_1",
        "layers_2",
        "layers_3",
    ]
    assert ablations.unshare(model, where=["layers_1/layers_0"]) == local
    assert ablations.unshare(model, where="layers_1") == local
    assert ablations.unshare(model, where=lambda name, layer: layer.features == 2) == local
    for where, message in [
        (["layers_7"], "unknown layer 'layers_7'"),
        ("layers_3", "layer layers_3: a Dense is not among .* layers_0, layers_1/layers_0"),
        (lambda name, layer: False, "where chooses no layer .* layers_0, layers_1/layers_0"),
    ]:
        with pytest.raises(InputError, match=message):
            ablations.unshare(model, where=where)
    with pytest.raises(InputError, match="the model has no layer that this ablation changes"):
        ablations.unshare(models.mlp())
