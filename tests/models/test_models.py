"""All networks: published and hand-counted parameters, output sizes, options and bad input."""

from __future__ import annotations

import inspect
import json

import flax
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn
from jaxtyping import Array, PyTree

from cnn import models
from cnn.errors import InputError
from cnn.layers import (
    BatchNorm,
    Chain,
    Concat,
    Conv,
    Dropout,
    GroupNorm,
    LocalResponseNorm,
    Residual,
    serialization,
)

SMALLEST = {
    "alexnet": 63,  # 63 → 15 → 7 → 3 → 1 by windows 11 (padded by 2), 3, 3, 3
    "vgg11": 32,  # five halvings, to 1
    "vgg13": 32,
    "vgg16": 32,
    "vgg19": 32,
    "googlenet": 31,  # 31 → 16 → 8 → 4 → 2 → 1 by a padded window of 7 and four poolings of 3
    "small_inception": 4,  # two halvings, to 1
    "resnet18": 1,  # every window is padded by half of it
    "mobilenet_v1": 1,
    "separable_net": 1,
    "xception": 7,  # 7 → 3 → 1 by two windows of 3 without padding
    "small_vgg": 8,  # three halvings, to 1
    "s_conv": 1,
    "d_conv": 1,
    "full_conv": 1,
    "lecture_cnn": 16,  # 16 → 12 → 6 → 2 → 1
    "lenet5": 12,  # 12 → 6 → 2 → 1
}
"""All networks with two spatial axes, and the smallest square image they accept, by hand."""

NORMALISED = [
    name for name in SMALLEST if "norm" in inspect.signature(models.by_name(name)).parameters
]
SCALED = [
    name for name in SMALLEST if "width" in inspect.signature(models.by_name(name)).parameters
]


def shapes(model: nn.Module, size: int, channels: int = 3) -> PyTree:
    image = jax.ShapeDtypeStruct((1, size, size, channels), jnp.float32)
    return jax.eval_shape(model.init, jax.random.key(0), image)


def parameters(model: nn.Module, size: int, channels: int = 3) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(shapes(model, size, channels)["params"]))


def output_shape(model: nn.Module, *shape: int) -> tuple[int, ...]:
    image = jax.ShapeDtypeStruct(shape, jnp.float32)
    return jax.eval_shape(lambda x: model.init_with_output(jax.random.key(0), x)[0], image).shape


def parts(model: nn.Module, kind: type[nn.Module]) -> list[nn.Module]:
    """Return all layers of one kind inside `model`, found by its fields."""
    if isinstance(model, kind):
        return [model]
    fields = [getattr(model, name) for name in model.__dataclass_fields__ if name != "parent"]
    flat = [v for field in fields for v in (field if isinstance(field, tuple) else (field,))]
    return [part for v in flat if isinstance(v, nn.Module) for part in parts(v, kind)]


def random_image(*shape: int) -> Array:
    return jnp.asarray(np.random.default_rng(1).normal(size=shape), jnp.float32)


def random_variables(model: nn.Module, x: Array) -> PyTree:
    """Return variables distributed as those of `init`, whose random numbers compile slowly."""
    rng = np.random.default_rng(0)

    def draw(path: tuple[jax.tree_util.DictKey, ...], leaf: jax.ShapeDtypeStruct) -> Array:
        if path[-1].key == "kernel":
            value = rng.normal(size=leaf.shape) * np.sqrt(2 / np.prod(leaf.shape[:-1]))
        else:
            value = np.full(leaf.shape, path[-1].key in ("scale", "var"))
        return jnp.asarray(value, leaf.dtype)

    return jax.tree.map_with_path(draw, jax.eval_shape(model.init, jax.random.key(0), x))


# torchvision: `num_params` in the weights' documentation (torchvision 0.13 and later). Keras:
# "Trainable params" of `keras.applications` model summaries. 224×224 (Xception 299×299), RGB,
# 1,000 classes.
PUBLISHED = [
    (models.alexnet(), 224, 61_100_840, "torchvision AlexNet_Weights"),
    (models.vgg11(), 224, 132_863_336, "torchvision VGG11_Weights"),
    (models.vgg13(), 224, 133_047_848, "torchvision VGG13_Weights"),
    (models.vgg16(), 224, 138_357_544, "torchvision VGG16_Weights"),
    (models.vgg19(), 224, 143_667_240, "torchvision VGG19_Weights"),
    (models.vgg11(norm="batch"), 224, 132_868_840, "torchvision VGG11_BN_Weights"),
    (models.vgg13(norm="batch"), 224, 133_053_736, "torchvision VGG13_BN_Weights"),
    (models.vgg16(norm="batch"), 224, 138_365_992, "torchvision VGG16_BN_Weights"),
    (models.vgg19(norm="batch"), 224, 143_678_248, "torchvision VGG19_BN_Weights"),
    (
        models.googlenet(torchvision_compatible=True),
        224,
        6_624_904,
        "torchvision GoogLeNet_Weights",
    ),
    (models.resnet18(), 224, 11_689_512, "torchvision ResNet18_Weights"),
    (models.mobilenet_v1(), 224, 4_231_976, "Keras MobileNet"),
    (models.mobilenet_v1(width=0.5), 224, 1_331_592, "Keras MobileNet, alpha=0.5"),
    (models.mobilenet_v1(width=0.25), 224, 470_072, "Keras MobileNet, alpha=0.25"),
    (models.xception(), 299, 22_855_952, "Keras Xception"),
]


@pytest.mark.parametrize(
    ("model", "size", "count"),
    [row[:3] for row in PUBLISHED],
    ids=[row[3].replace(" ", "-") for row in PUBLISHED],
)
def test_parameters_are_as_many_as_published(model: nn.Module, size: int, count: int) -> None:
    assert parameters(model, size) == count


def kernel(window: int, c_in: int, c_out: int) -> int:
    return window**2 * c_in * c_out


def test_googlenet_parameters_by_hand_from_the_table_of_the_paper() -> None:
    def biased(window: int, c_in: int, c_out: int) -> int:
        return kernel(window, c_in, c_out) + c_out

    def block(c_in: int, a: int, b: int, c: int, d: int, e: int, f: int) -> int:
        small = biased(1, c_in, a) + biased(1, c_in, b) + biased(1, c_in, d) + biased(1, c_in, f)
        return small + biased(3, b, c) + biased(5, d, e)

    by_hand = (
        biased(7, 3, 64) + biased(1, 64, 64) + biased(3, 64, 192)
        + block(192, 64, 96, 128, 16, 32, 32)  # 3a
        + block(256, 128, 128, 192, 32, 96, 64)  # 3b
        + block(480, 192, 96, 208, 16, 48, 64)  # 4a
        + block(512, 160, 112, 224, 24, 64, 64)  # 4b
        + block(512, 128, 128, 256, 24, 64, 64)  # 4c
        + block(512, 112, 144, 288, 32, 64, 64)  # 4d
        + block(528, 256, 160, 320, 32, 128, 128)  # 4e
        + block(832, 256, 160, 320, 32, 128, 128)  # 5a
        + block(832, 384, 192, 384, 48, 128, 128)  # 5b
        + biased(1, 1024, 1000)
    )  # fmt: skip
    assert by_hand == 6_998_552
    assert parameters(models.googlenet(), 224) == by_hand


def test_small_networks_parameters_by_hand() -> None:
    # 3×3 convolutions with bias; 4×4×256 inputs of the hidden layer
    vgg = [(3, 64), (64, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    by_hand = sum(kernel(3, *c) + c[1] for c in vgg) + (4096 + 1) * 256 + (256 + 1) * 10
    assert parameters(models.small_vgg(), 32) == by_hand == 2_196_810

    # depthwise 3×3, pointwise, two numbers per normalised channel
    pairs = [(32, 64), (64, 128), (128, 128), (128, 256), (256, 256)]
    separable = sum(9 * a + 2 * a + a * b + 2 * b for a, b in pairs)
    by_hand = kernel(3, 3, 32) + 2 * 32 + separable + (256 + 1) * 10
    assert parameters(models.separable_net(), 32) == by_hand == 136_778

    # the stem, blocks 3a (on 64 channels), 3b and 4a, two numbers per normalised channel
    a = 64 * (64 + 96 + 16 + 32) + kernel(3, 96, 128) + kernel(5, 16, 32) + 2 * 368
    b = 256 * (128 + 128 + 32 + 64) + kernel(3, 128, 192) + kernel(5, 32, 96) + 2 * 640
    c = 480 * (192 + 96 + 16 + 64) + kernel(3, 96, 208) + kernel(5, 16, 48) + 2 * 624
    by_hand = kernel(3, 3, 64) + 2 * 64 + a + b + c + (512 + 1) * 10
    assert parameters(models.small_inception(), 32) == by_hand == 910_602


@pytest.mark.parametrize("alpha", [1, 3, 32])
def test_neyshabur_parameters_by_hand(alpha: int) -> None:
    # S-CONV: 9·9·3 α weights, 16·16 α inputs to 24 α, two numbers per channel, head with bias
    a = alpha
    s_conv = 243 * a + 2 * a + 256 * a * 24 * a + 2 * 24 * a + 24 * a * 10 + 10
    assert parameters(models.s_conv(alpha=a), 32) == s_conv == 6144 * a**2 + 533 * a + 10
    # D-CONV: 9 Σ c_in c_out, 2·2·16 α inputs to 64 α
    convolutions = 27 * a + 9 * (2 + 4 + 8 + 16 + 32 + 64 + 128) * a**2
    normal = 2 * (1 + 2 + 2 + 4 + 4 + 8 + 8 + 16 + 64) * a
    d_conv = convolutions + normal + (64 * a) ** 2 + 64 * a * 10 + 10
    assert parameters(models.d_conv(alpha=a), 32) == d_conv == 6382 * a**2 + 885 * a + 10


def test_full_conv_parameters_by_hand() -> None:
    by_hand = 9 * (3 * 32 + 32 * 32 + 32 * 64 + 64 * 64) + (64 + 1) * 2
    assert parameters(models.full_conv(), 32) == by_hand == 65_506


@pytest.mark.parametrize(
    ("model", "tail", "size", "last"),
    [
        (models.alexnet(), 9, 224, (6, 6, 256)),  # Krizhevsky 2014: 6×6×256 into the dense layers
        (models.vgg16(), 9, 224, (7, 7, 512)),  # Simonyan & Zisserman 2015
        (models.googlenet(), 3, 224, (7, 7, 1024)),  # Szegedy et al. 2015, table 1
        (models.googlenet(torchvision_compatible=True), 3, 224, (7, 7, 1024)),
        (models.resnet18(), 2, 224, (7, 7, 512)),  # He et al. 2016, table 1
        (models.mobilenet_v1(), 2, 224, (7, 7, 1024)),  # Howard et al. 2017, table 1
        (models.xception(), 2, 299, (10, 10, 2048)),  # Chollet 2017, figure 5
        (models.small_vgg(), 5, 32, (4, 4, 256)),
        (models.separable_net(), 2, 32, (8, 8, 256)),
        (models.small_inception(), 2, 32, (8, 8, 512)),
        (models.s_conv(alpha=2), 5, 32, (16, 16, 2)),
        (models.d_conv(alpha=2), 5, 32, (2, 2, 32)),
        (models.full_conv(), 2, 32, (6, 6, 64)),  # 32 → 34 → 18 → 10 → 6
        (models.full_conv(padding=1), 2, 32, (4, 4, 64)),  # 32 → 32 → 16 → 8 → 4
        (models.full_conv(padding="VALID"), 2, 32, (2, 2, 64)),  # 32 → 30 → 14 → 6 → 2
    ],
)
def test_last_map(model: Chain, tail: int, size: int, last: tuple[int, ...]) -> None:
    """The map before the last `tail` layers has the published size."""
    body = Chain(model.layers[:-tail])
    assert output_shape(body, 1, size, size, 3) == (1, *last)


@pytest.mark.parametrize("name", SMALLEST)
def test_logits_on_other_sizes(name: str) -> None:
    model = models.by_name(name)(num_classes=7)
    size = SMALLEST[name]
    assert output_shape(model, 2, size, size, 1) == (2, 7)
    assert output_shape(model, 2, size + 5, size + 30, 4) == (2, 7)


@pytest.mark.parametrize("name", [name for name, size in SMALLEST.items() if size > 1])
def test_an_input_that_is_too_small_names_the_window(name: str) -> None:
    size = SMALLEST[name] - 1
    with pytest.raises(InputError, match=r"^layer \S+: window must fit into the padded") as error:
        output_shape(models.by_name(name)(), 1, size, size, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", SMALLEST)
def test_one_spatial_axis_for_a_network_of_two_is_one_line(name: str) -> None:
    with pytest.raises(InputError, match="one int for each of 1 spatial axes, got") as error:
        output_shape(models.by_name(name)(), 1, 64, 3)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("name", models.names())
def test_every_network_can_be_serialized(name: str) -> None:
    model = models.by_name(name)()
    line = json.dumps(serialization.to_spec(model))
    assert serialization.from_spec(json.loads(line)) == model
    assert hash(serialization.from_spec(json.loads(line))) == hash(model)


def test_names_are_the_networks() -> None:
    assert set(models.names()) == {*SMALLEST, "logistic", "mlp", "cnn1d"}


@pytest.mark.parametrize("name", NORMALISED)
def test_norm_is_an_option(name: str) -> None:
    function = models.by_name(name)
    by_batch, by_group = function(norm="batch"), function(norm="group")
    assert len(parts(by_batch, BatchNorm)) == len(parts(by_group, GroupNorm)) >= 2
    size = max(SMALLEST[name], 32)
    batch, group = shapes(by_batch, size), shapes(by_group, size)
    assert set(batch) == {"params", "batch_stats"}
    assert set(group) == {"params"}
    normed = [sum(leaf.size for leaf in jax.tree.leaves(v["params"])) for v in (batch, group)]
    assert normed[0] == normed[1]
    assert not parts(function(norm="none"), BatchNorm | GroupNorm)
    with pytest.raises(InputError, match=r"norm must be .*, got 'layer'"):
        function(norm="layer")


@pytest.mark.parametrize("name", NORMALISED)
def test_without_norm_every_convolution_has_a_bias(name: str) -> None:
    convolutions = parts(models.by_name(name)(norm="none"), Conv)
    depthwise = sum(conv.groups == conv.features for conv in convolutions)
    biased = sum(conv.use_bias for conv in convolutions)
    assert biased == len(convolutions) - (depthwise if name == "xception" else 0)


@pytest.mark.parametrize("name", SCALED)
def test_width_scales_the_channels(name: str) -> None:
    function = models.by_name(name)
    whole, half = parts(function(), Conv), parts(function(width=0.5), Conv)
    assert [conv.features for conv in half] == [conv.features // 2 for conv in whole]
    # Every width leaves groups that divide the channels.
    size = max(SMALLEST[name], 32)
    assert output_shape(function(5, 0.3, norm="group"), 1, size, size, 3) == (1, 5)


def test_at_least_one_channel_is_left() -> None:
    assert {conv.features for conv in parts(models.vgg11(width=1e-9), Conv)} == {1}


@pytest.mark.parametrize("width", [0.0, -1.0, float("nan"), float("inf")])
def test_bad_width(width: float) -> None:
    with pytest.raises(InputError, match=f"width must be positive and finite, got {width}"):
        models.vgg11(width=width)


def test_init_and_apply_without_jit() -> None:
    model = models.full_conv(5, channels=(16,))
    x = random_image(2, 8, 8, 1)
    key = jax.random.key(0, impl="rbg")  # compiles faster than the default
    logits = model.apply(model.init(key, x), x)
    assert logits.shape == (2, 5)
    assert (logits[0] != logits[1]).all()


@pytest.mark.parametrize(
    "model",
    [models.resnet18(5, 1 / 16), models.s_conv(5, alpha=2)],
    ids=["convolutional", "dense"],
)
def test_training_updates_the_statistics_and_inference_uses_them(model: nn.Module) -> None:
    x = random_image(4, 16, 16, 3)
    variables = random_variables(model, x)

    @jax.jit
    def run(variables: PyTree) -> tuple[Array, Array, PyTree]:
        trained, updated = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return model.apply(variables, x), trained, updated["batch_stats"]

    inferred, trained, after = run(variables)
    before = variables["batch_stats"]
    assert jax.tree.structure(before) == jax.tree.structure(after)
    for old, new in zip(jax.tree.leaves(before), jax.tree.leaves(after), strict=True):
        assert (old != new).any()
    assert np.abs(inferred - trained).max() > 0.01
    inferred_after = run(variables | {"batch_stats": after})[0]
    assert np.abs(inferred - inferred_after).max() > 0.01


def test_dropout_acts_in_training_only() -> None:
    model = models.small_vgg(5, (4,), hidden=16, dropout=0.5)
    x = random_image(2, 8, 8, 3)
    variables = random_variables(model, x)

    @jax.jit
    def train(key: Array) -> Array:
        return model.apply(variables, x, train=True, rngs={"dropout": key})

    assert (train(jax.random.key(1)) != train(jax.random.key(2))).any()
    with pytest.raises(flax.errors.InvalidRngError):
        jax.eval_shape(lambda: model.apply(variables, x, train=True))
    jax.eval_shape(lambda: model.apply(variables, x))  # inference needs no key


@pytest.mark.parametrize(
    ("model", "rates"),
    [
        (models.alexnet(), [0.5, 0.5]),
        (models.vgg16(), [0.5, 0.5]),
        (models.vgg16(dropout=0.1), [0.1, 0.1]),
        (models.googlenet(), [0.4]),  # Szegedy et al. 2015, table 1
        (models.googlenet(torchvision_compatible=True), [0.2]),
        (models.googlenet(dropout=0.0), [0.0]),
    ],
)
def test_dropout_rates(model: nn.Module, rates: list[float]) -> None:
    assert [layer.rate for layer in parts(model, Dropout)] == rates


def test_googlenet_options() -> None:
    paper, torchvision = models.googlenet(), models.googlenet(torchvision_compatible=True)
    windows = [sorted({c.window for c in parts(m, Conv)}) for m in (paper, torchvision)]
    assert windows == [[(1, 1), (3, 3), (5, 5), (7, 7)], [(1, 1), (3, 3), (7, 7)]]
    assert len(parts(paper, LocalResponseNorm)) == 2
    assert not parts(models.googlenet(norm="batch"), LocalResponseNorm)
    assert not parts(models.googlenet(torchvision_compatible=True, norm="none"), LocalResponseNorm)
    assert {norm.epsilon for norm in parts(torchvision, BatchNorm)} == {1e-3}
    assert len(parts(paper, Concat)) == 9
    # torchvision's documentation: at least 15×15, one pooling of 2 being smaller
    assert output_shape(torchvision, 1, 15, 15, 3) == (1, 1000)
    with pytest.raises(InputError, match="window must fit into the padded size 2"):
        output_shape(torchvision, 1, 14, 14, 3)


def test_xception_middle_flow() -> None:
    assert [len(parts(models.xception(middle=n), Residual)) for n in (0, 1, 8)] == [4, 5, 12]
    # 728 channels through three separable layers, each normalised
    block = 3 * (9 * 728 + 728 * 728 + 2 * 728)
    counts = [parameters(models.xception(middle=n), 32) for n in (1, 2, 3)]
    assert np.diff(counts).tolist() == [block, block]


@pytest.mark.parametrize(("padding", "seen"), [("FULL", 9), (1, 4), ("VALID", 1)])
def test_full_conv_sees_a_corner_with_every_weight(padding: str | int, seen: int) -> None:
    """Filter i is 1 at tap i and 0 elsewhere: it fires if that weight sees the bright pixel."""
    model = models.full_conv(channels=(9,), padding=padding)
    taps = {"params": {"layers_0": {"kernel": np.eye(9, dtype=np.float32).reshape(3, 3, 1, 9)}}}
    fired = Chain(model.layers[:-1]).apply
    corner, inside = np.zeros((2, 1, 8, 8, 1), np.float32)
    corner[0, 0, 0] = inside[0, 4, 4] = 1
    assert np.sum(fired(taps, corner)) == seen
    assert np.sum(fired(taps, inside)) == 9
