"""The networks of the benchmarks, and the same networks in plain Flax and in PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import singledispatch
from typing import NamedTuple

import jax.numpy as jnp
from etils import epy
from flax import linen as nn
from jaxtyping import Array

from cnn import layers, models
from cnn.ablations import unshare
from cnn.errors import InputError, unknown_name

with epy.lazy_imports():
    import torch


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

OTHERS = {"resnet18": Network(models.resnet18, (224, 224, 3), 8, 1.0)}
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
    """Return `layer` as a user of Flax would write it; one without weights stays as it is."""
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
        feature_group_count=layer.groups,
        use_bias=layer.use_bias,
    )


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
    strides = layer.strides or layer.window[0]
    pairs = "VALID" if layer.padding == "VALID" else ((layer.padding,) * 2,) * 2
    return lambda x: nn.max_pool(x, layer.window, (strides, strides), pairs)


def in_torch(layer: nn.Module, size: tuple[int, int], c_in: int) -> torch.nn.Module:
    """Return `layer` in PyTorch, for maps `(batch, c_in, *size)`."""
    tnn = torch.nn

    class Local(tnn.Module):
        """A matrix product for each position, on unfolded windows."""

        def __init__(self, layer: layers.ConvLocal, c_in: int, out: tuple[int, int]) -> None:
            super().__init__()
            self.out, self.padding, self.window = out, layer.padding, layer.window
            taps = c_in * layer.window[0] * layer.window[1]
            positions = out[0] * out[1]
            weight = torch.randn(positions, taps, layer.features) * taps**-0.5
            self.weight = tnn.Parameter(weight)
            self.bias = tnn.Parameter(torch.zeros(positions, 1, layer.features))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            padding = 0 if self.padding == "VALID" else self.padding
            patches = torch.nn.functional.unfold(x, self.window, padding=padding)
            y = torch.baddbmm(self.bias, patches.permute(2, 0, 1), self.weight)
            return y.permute(1, 2, 0).reshape(len(x), -1, *self.out)

    class Joined(tnn.Module):
        """Branches concatenated along the channels."""

        def __init__(self, branches: list[tnn.Module]) -> None:
            super().__init__()
            self.branches = tnn.ModuleList(branches)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([branch(x) for branch in self.branches], 1)

    class Sum(tnn.Module):
        """A body and its shortcut, added."""

        def __init__(self, body: tnn.Module, shortcut: tnn.Module) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) + self.shortcut(x)

    def pad(padding: object, window: tuple[int, int]) -> int:
        if padding == "SAME":  # as PyTorch's users write it; with stride 2, a cell to the side
            return window[0] // 2
        return 0 if padding == "VALID" else int(padding)  # type: ignore[call-overload]

    match layer:
        case layers.Chain():
            parts = []
            for part in layer.layers:
                parts.append(in_torch(part, size, c_in))
                with torch.no_grad():
                    y = parts[-1](torch.zeros(2, c_in, *size))
                c_in, size = y.shape[1], tuple(y.shape[2:])
            return tnn.Sequential(*parts)
        case layers.Concat():
            return Joined([in_torch(branch, size, c_in) for branch in layer.branches])
        case layers.Residual():
            skip = layer.shortcut
            shortcut = tnn.Identity() if skip is None else in_torch(skip, size, c_in)
            return Sum(in_torch(layer.body, size, c_in), shortcut)
        case layers.Conv():
            padding = pad(layer.padding, layer.window)
            return tnn.Conv2d(
                *(c_in, layer.features, layer.window, layer.strides, padding),
                groups=layer.groups,
                bias=layer.use_bias,
            )
        case layers.ConvLocal():
            padding = pad(layer.padding, layer.window)
            out = tuple(n + 2 * padding - k + 1 for n, k in zip(size, layer.window, strict=True))
            return Local(layer, c_in, out)
        case layers.Dense():
            return tnn.Linear(c_in, layer.features)
        case layers.BatchNorm():
            return tnn.BatchNorm2d(c_in)
        case layers.ReLU():
            return tnn.ReLU(inplace=True)
        case layers.MaxPool():
            return tnn.MaxPool2d(layer.window, layer.strides, pad(layer.padding, layer.window))
        case layers.AdaptiveAvgPool():
            return tnn.AdaptiveAvgPool2d(layer.output_size)
        case layers.GlobalAvgPool():
            return tnn.Sequential(tnn.AdaptiveAvgPool2d(1), tnn.Flatten())
        case layers.Flatten():
            return tnn.Flatten()
        case layers.Dropout(rate=0.0):
            return tnn.Identity()
    raise TypeError(f"{type(layer).__name__} has no translation to PyTorch")
