"""A model of `cnn.layers` in PyTorch, as its users would write it, for signals and for images.

Weights are PyTorch's initial ones, or copies of the model's variables: kernels become OIHW, and
those of a dense layer after `Flatten` are reordered from (h, w, c) to (c, h, w). Padding "SAME" is
half of the window on both sides, which for an even size and stride 2 is a cell to the side.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from etils import epy
from flax import linen as nn

from cnn import layers, ops
from cnn.models import airbench

with epy.lazy_imports():
    import torch

Variables = Mapping[str, Any]
"""The variables of a layer by name, from all collections; those of parts by the part's name."""


def in_torch(
    layer: nn.Module,
    size: Sequence[int],
    c_in: int,
    variables: Mapping[str, Variables] | None = None,
) -> torch.nn.Module:
    """Return `layer` in PyTorch, for maps `(batch, c_in, *size)`.

    Args:
        layer: The layer, or a model made of layers.
        size: The size of the maps; empty after `Flatten` and global pooling.
        c_in: The number of channels.
        variables: The variables of `layer`, by collection, which are copied if given.

    Raises:
        TypeError: If a layer has no translation.
    """
    collections = (variables or {}).values()
    return _Translation(copy=variables is not None).module(
        layer, (c_in, *size), _merged(collections)
    )


def _merged(trees: Any) -> dict[str, Any]:
    """Return one tree of several with different leaves."""
    merged: dict[str, Any] = {}
    for tree in trees:
        for key, value in tree.items():
            old = merged.get(key, {})
            merged[key] = _merged([old, value]) if isinstance(value, Mapping) else value
    return merged


class _Translation:
    """Translates layers in the order in which they run."""

    def __init__(self, copy: bool) -> None:
        self.copy = copy
        self.flattened: tuple[int, ...] | None = None
        """The shape `(c, *size)` before the last `Flatten`, until a dense layer follows."""

    def module(self, layer: nn.Module, shape: tuple[int, ...], own: Variables) -> torch.nn.Module:
        """Return a layer in PyTorch, for an input of `shape`, channels first."""
        match layer:
            case layers.Chain():
                parts = []
                for i, part in enumerate(layer.layers):
                    parts.append(self.module(part, shape, own.get(f"layers_{i}", {})))
                    shape = _output_shape(parts[-1], shape)
                return torch.nn.Sequential(*parts)
            case layers.Concat():
                branches = [
                    self.module(branch, shape, own.get(f"branches_{i}", {}))
                    for i, branch in enumerate(layer.branches)
                ]
                return _concat(branches)
            case layers.Residual():
                skip = layer.shortcut
                shortcut = torch.nn.Identity()
                if skip is not None:
                    shortcut = self.module(skip, shape, own.get("shortcut", {}))
                return _sum(self.module(layer.body, shape, own.get("body", {})), shortcut)
            case airbench.Mirrored():
                return _mirrored(self.module(layer.body, shape, own.get("body", {})), layer.scale)
            case layers.Flatten():
                self.flattened = shape
        module = _leaf(layer, shape)
        if self.copy and own:
            self._load(module, layer, own)
        if isinstance(layer, layers.Dense):
            self.flattened = None
        return module

    def _load(self, module: torch.nn.Module, layer: nn.Module, own: Variables) -> None:
        """Copy the variables of a layer."""
        arrays = {name: np.asarray(value) for name, value in own.items()}
        match layer:
            case layers.SeparableConv():
                depthwise, pointwise = module
                _fill(depthwise.weight, _channels_first(arrays["depthwise_kernel"]))
                kernel = _channels_first(arrays["pointwise_kernel"])
                _fill(pointwise.weight, kernel.reshape(pointwise.weight.shape))
                module = pointwise
            case layers.ConvLocal():
                _fill(module.weight, _local_kernel(arrays["kernel"], len(layer.window)))
                _fill(module.bias, arrays["bias"].reshape(module.bias.shape))
                return
            case layers.Conv():
                _fill(module.weight, _channels_first(arrays["kernel"]))
            case airbench.ScaledBias():
                pass
            case layers.Dense():
                kernel = arrays["kernel"]
                if self.flattened is not None:
                    c, *size = self.flattened
                    kernel = np.moveaxis(kernel.reshape(*size, c, -1), -2, 0)
                    kernel = kernel.reshape(-1, layer.features)
                _fill(module.weight, kernel.T)
            case _:  # normalization
                _fill(module.weight, arrays["scale"])
        if "bias" in arrays:
            _fill(module.bias, arrays["bias"])
        if "mean" in arrays:
            _fill(module.running_mean, arrays["mean"])
            _fill(module.running_var, arrays["var"])


def _fill(weight: torch.Tensor, value: np.ndarray) -> None:
    with torch.no_grad():
        weight.copy_(torch.tensor(np.ascontiguousarray(value)))


def _channels_first(kernel: np.ndarray) -> np.ndarray:
    """Return (*window, i, o) as (o, i, *window)."""
    return np.moveaxis(kernel, (-1, -2), (0, 1))


def _local_kernel(kernel: np.ndarray, rank: int) -> np.ndarray:
    """Return (*out, *window, i, o) as (positions, taps, o), the taps in the order of `unfold`."""
    out, window, (c_in, c_out) = kernel.shape[:rank], kernel.shape[rank:-2], kernel.shape[-2:]
    taps = kernel.reshape(math.prod(out), math.prod(window), c_in, c_out).swapaxes(1, 2)
    return taps.reshape(math.prod(out), -1, c_out)


def _output_shape(module: torch.nn.Module, shape: tuple[int, ...]) -> tuple[int, ...]:
    module.eval()  # in training, normalization would count the zeros
    with torch.no_grad():
        found = tuple(module(torch.zeros(2, *shape)).shape[1:])
    module.train()
    return found


def _leaf(layer: nn.Module, shape: tuple[int, ...]) -> torch.nn.Module:
    """Return a layer that contains no others, with PyTorch's initial weights."""
    tnn, (c_in, *size) = torch.nn, shape
    rank = len(size)

    def of_rank(name: str) -> Any:
        if rank not in (1, 2, 3):
            raise TypeError(f"{name} has no translation to PyTorch for an input of shape {shape}")
        return getattr(tnn, f"{name}{rank}d")

    def each(value: Any, name: str) -> tuple[int, ...]:
        return ops.window.per_axis(value, rank, name)

    match layer:
        case layers.Conv():
            options = _options(layer, rank)
            return of_rank("Conv")(
                c_in, layer.features, groups=layer.groups, bias=layer.use_bias, **options
            )
        case layers.SeparableConv():
            inner = c_in * layer.multiplier
            options = _options(layer, rank)
            depthwise = of_rank("Conv")(c_in, inner, groups=c_in, bias=False, **options)
            pointwise = of_rank("Conv")(inner, layer.features, 1, bias=layer.use_bias)
            return tnn.Sequential(depthwise, pointwise)
        case layers.ConvLocal(groups=1, dilation=1, padding_mode="zeros", tied_bias=False):
            return _local(layer, c_in, tuple(size))
        case layers.Dense():
            return tnn.Linear(c_in, layer.features, bias=layer.use_bias)
        case layers.BatchNorm():
            norm = tnn.BatchNorm2d if rank == 2 else tnn.BatchNorm1d
            return norm(c_in, eps=layer.epsilon, momentum=1 - layer.momentum)
        case layers.GroupNorm():
            return tnn.GroupNorm(layer.groups, c_in, layer.epsilon)
        case layers.LocalResponseNorm(size=n, k=k, alpha=alpha, beta=beta):
            return tnn.LocalResponseNorm(n, alpha * n, beta, k)
        case layers.ReLU():
            return tnn.ReLU(inplace=True)
        case layers.GELU():
            return tnn.GELU()
        case layers.Tanh():
            return tnn.Tanh()
        case layers.Sigmoid():
            return tnn.Sigmoid()
        case layers.MaxPool(window=window, dilation=dilation):
            strides = each(layer.strides or window, "strides")
            window = each(window, "window")
            padding = _sides(layer.padding, window, each(dilation, "dilation"))
            return of_rank("MaxPool")(window, strides, padding, dilation)
        case layers.AvgPool(window=window, count_padding=count):
            strides = each(layer.strides or window, "strides")
            window = each(window, "window")
            padding = _sides(layer.padding, window, (1,) * rank)
            return of_rank("AvgPool")(window, strides, padding, count_include_pad=count)
        case layers.AdaptiveAvgPool():
            return of_rank("AdaptiveAvgPool")(each(layer.output_size, "output_size"))
        case layers.AdaptiveMaxPool():
            return of_rank("AdaptiveMaxPool")(each(layer.output_size, "output_size"))
        case layers.BlurPool():
            return _blur(layer, c_in, rank)
        case layers.Maxout():
            return _maxout(layer.group)
        case layers.GlobalAvgPool():
            return tnn.Sequential(of_rank("AdaptiveAvgPool")(1), tnn.Flatten())
        case layers.GlobalMaxPool():
            return tnn.Sequential(of_rank("AdaptiveMaxPool")(1), tnn.Flatten())
        case airbench.Whiten():
            return _whitening(_channels_first(np.asarray(layer.kernel)))
        case airbench.ScaledBias():
            return _scaled_bias(c_in)
        case layers.Flatten():
            return tnn.Flatten()
        case layers.Dropout(rate=0.0):
            return tnn.Identity()
    raise TypeError(f"{type(layer).__name__} has no translation to PyTorch")


def _options(layer: layers.ConvBase, rank: int) -> dict[str, Any]:
    """Return the arguments that place the windows of a convolution."""
    window = ops.window.per_axis(layer.window, rank, "window")
    dilation = ops.window.per_axis(layer.dilation, rank, "dilation")
    return {
        "kernel_size": window,
        "stride": layer.strides,
        "padding": _sides(layer.padding, window, dilation),
        "dilation": dilation,
        "padding_mode": layer.padding_mode,
    }


def _sides(padding: Any, window: Sequence[int], dilation: Sequence[int]) -> tuple[int, ...]:
    """Return the padding on both sides of each axis."""
    if padding == "SAME":
        return tuple(d // 2 for d in ops.window.dilated(window, dilation))
    pairs = ops.window.resolve_padding(padding, (1,) * len(window), window, 1, dilation)
    if any(lo != hi for lo, hi in pairs):
        raise TypeError(f"padding {padding!r} has no translation to PyTorch: its sides differ")
    return tuple(lo for lo, _ in pairs)


def _concat(branches: list[torch.nn.Module]) -> torch.nn.Module:
    class Concat(torch.nn.Module):
        """Branches concatenated along the channels."""

        def __init__(self) -> None:
            super().__init__()
            self.branches = torch.nn.ModuleList(branches)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([branch(x) for branch in self.branches], 1)

    return Concat()


def _sum(body: torch.nn.Module, shortcut: torch.nn.Module) -> torch.nn.Module:
    class Sum(torch.nn.Module):
        """A body and its shortcut, added."""

        def __init__(self) -> None:
            super().__init__()
            self.body, self.shortcut = body, shortcut

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.body(x) + self.shortcut(x)

    return Sum()


def _mirrored(body: torch.nn.Module, scale: float) -> torch.nn.Module:
    class Mirrored(torch.nn.Module):
        """Scaled logits; in inference, their mean over an image and its mirror."""

        def __init__(self) -> None:
            super().__init__()
            self.body = body

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            logits = self.body(x)
            if not self.training:
                logits = (logits + self.body(x.flip(-1))) / 2
            return scale * logits

    return Mirrored()


def _whitening(kernel: np.ndarray) -> torch.nn.Module:
    class Whiten(torch.nn.Module):
        """A convolution with a constant kernel."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("weight", torch.tensor(kernel, dtype=torch.float32))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.conv2d(x, self.weight)

    return Whiten()


def _scaled_bias(channels: int) -> torch.nn.Module:
    class ScaledBias(torch.nn.Module):
        """x + 8 b."""

        def __init__(self) -> None:
            super().__init__()
            self.bias = torch.nn.Parameter(torch.zeros(channels))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x + 8 * self.bias.reshape(-1, *[1] * (x.ndim - 2))

    return ScaledBias()


def _maxout(group: int) -> torch.nn.Module:
    class Maxout(torch.nn.Module):
        """The largest of adjacent channels."""

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x.unflatten(1, (-1, group)).max(2).values

    return Maxout()


def _blur(layer: layers.BlurPool, channels: int, rank: int) -> torch.nn.Module:
    n = layer.window
    conv = getattr(torch.nn.functional, f"conv{rank}d")
    kernel = _channels_first(np.asarray(ops.filters.binomial_blur(n, rank)))

    class Blur(torch.nn.Module):
        """A depthwise convolution with a constant kernel, after reflection at the borders."""

        def __init__(self) -> None:
            super().__init__()
            weight = torch.tensor(kernel).repeat(channels, *[1] * (rank + 1))
            self.register_buffer("weight", weight)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            sides = [(n - 1) // 2, n // 2] * rank
            x = torch.nn.functional.pad(x, sides, mode="reflect")
            return conv(x, self.weight, stride=layer.strides, groups=channels)

    return Blur()


def _local(layer: layers.ConvLocal, c_in: int, size: tuple[int, ...]) -> torch.nn.Module:
    if len(size) != 2:
        raise TypeError(f"ConvLocal has no translation to PyTorch for maps of size {size}")
    window = ops.window.per_axis(layer.window, 2, "window")
    strides = ops.window.per_axis(layer.strides, 2, "strides")
    padding = _sides(layer.padding, window, (1, 1))
    spec = ops.window_spec(size, window, strides, tuple((p, p) for p in padding))
    positions, taps = math.prod(spec.out), c_in * math.prod(window)

    class Local(torch.nn.Module):
        """A matrix product for each position, on unfolded windows."""

        def __init__(self) -> None:
            super().__init__()
            weight = torch.randn(positions, taps, layer.features) * taps**-0.5
            self.weight = torch.nn.Parameter(weight)
            self.bias = torch.nn.Parameter(torch.zeros(positions, 1, layer.features))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            patches = torch.nn.functional.unfold(x, window, padding=padding, stride=strides)
            y = torch.baddbmm(self.bias, patches.permute(2, 0, 1), self.weight)
            return y.permute(1, 2, 0).reshape(len(x), -1, *spec.out)

    return Local()
