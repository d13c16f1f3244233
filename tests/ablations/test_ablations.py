"""All ablations on all networks: output sizes stay, or an error names the layer."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ablations, models
from cnn.errors import InputError
from cnn.geometry import trace
from cnn.layers import (
    ReLU,
)

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
# Combinations that raise an error, and its message.
IMPOSSIBLE = {
    ("group", "googlenet"): "layer layers_10/branches_2/layers_0: groups must divide .* features=1",
    ("group", "vgg11"): "layer layers_4: groups must divide .* groups=2, features=3",
    ("bottleneck", "separable_net"): "layer layers_3: groups must be 1, got 4",
    ("bottleneck", "xception"): "layer layers_6/body/layers_0/layers_1: groups must be 1",
    ("repad", "googlenet"): "layer layers_19/.*circular padding must be at most 1 .* got 2",
    ("repad-full", "googlenet"): "layer layers_10: branches of Concat must have",
    ("repad-full", "resnet18"): "layer layers_4: body and shortcut of Residual must have",
    ("repad-full", "xception"): "layer layers_6: body and shortcut of Residual must have",
    ("repool-none", "xception"): "layer layers_6: body and shortcut of Residual must have",
    **{
        ("repool-blur", name): "layer .*: reflect padding must be at most 0 on axis 1"
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
    assert all(after[path].output == layer.output for path, layer in before.items())
    assert output(ALL[ablation](SMALL[name]), shape) == (1, 10)
