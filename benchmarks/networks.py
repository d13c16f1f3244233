"""The networks of the benchmarks, and the same networks in plain Flax."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from cnn import layers, models, ops
from cnn.ablations import unshare
from cnn.errors import InputError, unknown_name
from cnn.models import airbench


class Network(NamedTuple):
    """A model, the shape of an example, the batch size, and goals for the relative speed."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    batch: int
    goal: float
    """Speed on a CPU, relative to the fastest PyTorch."""
    goal_on_gpu: float = 1.0
    """The same on a GPU."""


NETWORKS = {
    "lenet5": Network(models.lenet5, (28, 28, 1), 128, 1.5, 1.5),
    "mlp": Network(lambda: models.mlp(features=(512, 512)), (28, 28, 1), 128, 1.0, 1.5),
    "small_vgg": Network(models.small_vgg, (32, 32, 3), 64, 1.2),
    "vgg16": Network(lambda: models.vgg16(dropout=0.0), (224, 224, 3), 8, 1.5),
    "separable_net": Network(models.separable_net, (32, 32, 3), 64, 1.0),
    "small_inception": Network(models.small_inception, (32, 32, 3), 64, 1.0),
    "alexnet": Network(lambda: models.alexnet(dropout=0.0), (224, 224, 3), 8, 1.0),
    "local_lenet5": Network(lambda: unshare(models.lenet5()), (28, 28, 1), 128, 2.0, 1.5),
}


def _airbench() -> nn.Module:
    images = np.random.default_rng(0).standard_normal((64, 32, 32, 3), np.float32)
    return airbench.airbench(airbench.whitening(images))


OTHERS = {
    "lecture_cnn": Network(models.lecture_cnn, (28, 28, 1), 128, 1.2),
    "resnet18": Network(models.resnet18, (224, 224, 3), 8, 1.0),
    "airbench": Network(_airbench, (32, 32, 3), 512, 1.0),
}
"""Networks that are measured if they are named."""


def by_name(name: str, batch: int | None = None) -> Network:
    """Return the network called `name`, with another `batch` if one is given.

    Raises:
        InputError: If there is no such network, or the batch is not positive.
    """
    if name not in (known := NETWORKS | OTHERS):
        raise unknown_name("network", name, known)
    if batch is not None and batch < 1:
        raise InputError(f"batch must be positive, got {batch}")
    return known[name] if batch is None else known[name]._replace(batch=batch)


class Sequential(nn.Module):
    """Flax modules and functions one after another."""

    parts: tuple[Callable[[Array], Array], ...]

    def __call__(self, x: Array, train: bool = True) -> Array:
        for part in self.parts:
            x = part(x)
        return x


class Concat(nn.Module):
    """Flax modules on one input, their outputs concatenated along the channels."""

    parts: tuple[nn.Module, ...]

    def __call__(self, x: Array) -> Array:
        return jnp.concatenate([part(x) for part in self.parts], -1)


@singledispatch
def in_flax(layer: nn.Module) -> Callable[[Array], Array]:
    """Return `layer` as a user of Flax would write it; one that Flax lacks stays as it is."""
    return layer.clone()


@in_flax.register
def _(layer: layers.Chain) -> Sequential:
    return Sequential(tuple(map(in_flax, layer.layers)))


@in_flax.register
def _(layer: layers.Concat) -> Concat:
    return Concat(tuple(map(in_flax, layer.branches)))


@in_flax.register
def _(layer: layers.Conv) -> nn.Module:
    return nn.Conv(
        layer.features,
        layer.window,
        layer.strides,
        layer.padding,
        kernel_dilation=layer.dilation,
        feature_group_count=layer.groups,
        use_bias=layer.use_bias,
    )


@in_flax.register
def _(layer: layers.SeparableConv) -> nn.Module:
    return _Separable(layer)


@in_flax.register
def _(layer: layers.ConvLocal) -> nn.Module:
    return nn.ConvLocal(layer.features, layer.window, layer.strides, layer.padding)


@in_flax.register
def _(layer: layers.Dense) -> nn.Module:
    return nn.Dense(layer.features)


@in_flax.register
def _(layer: layers.BatchNorm) -> nn.Module:
    return nn.BatchNorm(use_running_average=False, momentum=layer.momentum)


@in_flax.register
def _(layer: layers.MaxPool) -> Callable[[Array], Array]:
    return lambda x: nn.max_pool(x, *_pool_windows(layer, x.ndim - 2))


@in_flax.register
def _(layer: layers.AvgPool) -> Callable[[Array], Array]:
    count = layer.count_padding
    return lambda x: nn.avg_pool(x, *_pool_windows(layer, x.ndim - 2), count_include_pad=count)


def _pool_windows(layer: layers.MaxPool | layers.AvgPool, rank: int) -> tuple:
    """Return window, strides and padding, each for every axis."""
    window = ops.window.per_axis(layer.window, rank, "window")
    strides = ops.window.per_axis(layer.strides or window, rank, "strides")
    if layer.padding in ("VALID", "SAME"):
        return window, strides, layer.padding
    return window, strides, ops.window.resolve_padding(layer.padding, (1,) * rank, window)


class _Separable(nn.Module):
    """A depthwise convolution, then a pointwise one."""

    layer: layers.SeparableConv

    @nn.compact
    def __call__(self, x: Array) -> Array:
        layer, c_in = self.layer, x.shape[-1]
        x = nn.Conv(
            *(c_in * layer.multiplier, layer.window, layer.strides, layer.padding),
            kernel_dilation=layer.dilation,
            feature_group_count=c_in,
            use_bias=False,
        )(x)
        return nn.Conv(layer.features, (1,) * (x.ndim - 2), use_bias=layer.use_bias)(x)
