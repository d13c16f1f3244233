"""Layers made of layers: in sequence, around a shortcut, in parallel."""

import inspect
from collections.abc import Callable
from functools import cache
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from cnn.errors import InputError, LayerError
from cnn.layers.pooling import AvgPool, BlurPool, MaxPool

BLOCK = "block"
"""The `checkpoint_name` of the outputs of a chain's blocks and pooling layers."""


class Chain(nn.Module):
    """Layers in sequence, of any Linen class. Layer i has the parameters `layers_i`.

    Equal layers in a chain are separate layers: they do not share weights.
    """

    layers: tuple[nn.Module, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(map(_unbound_copy, self.layers)))
        super().__post_init__()

    def __call__(self, x: Array, train: bool = False) -> Array:
        for layer in self.layers:
            x = apply_layer(layer, x, train)
            if isinstance(layer, Chain | Residual | Concat | MaxPool | AvgPool | BlurPool):
                x = checkpoint_name(x, BLOCK)
        return x


class Residual(nn.Module):
    """x ↦ body(x) + shortcut(x) (He et al. 2016). The default shortcut is the identity."""

    body: nn.Module
    shortcut: nn.Module | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", _unbound_copy(self.body))
        if self.shortcut is not None:
            object.__setattr__(self, "shortcut", _unbound_copy(self.shortcut))
        super().__post_init__()

    def __call__(self, x: Array, train: bool = False) -> Array:
        skip = x if self.shortcut is None else apply_layer(self.shortcut, x, train)
        y = apply_layer(self.body, x, train)
        if y.shape != skip.shape:
            raise InputError(
                f"body and shortcut of Residual must have the same output shape, got {y.shape} and "
                f"{skip.shape}: set a shortcut with the body's output shape"
            )
        return y + skip


class Concat(nn.Module):
    """Branches with the same input; their outputs are concatenated along the channels."""

    branches: tuple[nn.Module, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", tuple(map(_unbound_copy, self.branches)))
        super().__post_init__()

    def __call__(self, x: Array, train: bool = False) -> Array:
        outputs = [apply_layer(branch, x, train) for branch in self.branches]
        sizes = {y.shape[:-1] for y in outputs}
        if len(sizes) > 1:
            raise InputError(
                f"branches of Concat must have the same output size, got {sorted(sizes)}: "
                "give them matching padding and strides"
            )
        return jnp.concatenate(outputs, axis=-1)


def _unbound_copy(layer: nn.Module) -> nn.Module:
    """Copy a layer that has no parent: Flax gives one object one set of weights."""
    return layer.clone() if layer.parent is None else layer


def apply_layer(layer: nn.Module, x: Array, train: bool) -> Array:
    """Return `layer(x)`, with `train` if its `__call__` has that argument.

    An `InputError` becomes a `LayerError`, which names the layer.
    """
    try:
        return layer(x, **train_argument(layer, train))
    except LayerError:
        raise
    except InputError as error:
        raise LayerError("/".join(layer.path), str(error)) from error


def train_argument(module: nn.Module, train: bool) -> dict[str, Any]:
    """Return the argument `train` for a call of a module, if it takes one."""
    return {"train": train} if _takes_train(type(module).__call__) else {}


@cache
def _takes_train(function: Callable[..., Any]) -> bool:
    return "train" in inspect.signature(function).parameters
