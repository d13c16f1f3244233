"""Layers made of layers: one after another, around a shortcut, side by side."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import cache

import jax.numpy as jnp
from flax import linen as nn
from jax.ad_checkpoint import checkpoint_name
from jaxtyping import Array

from cnn.errors import InputError, LayerError
from cnn.layers.pooling import AvgPool, BlurPool, MaxPool

BLOCK = "block"
"""The name, for `jax.checkpoint`, of what a chain's blocks and pooling layers give."""


class Chain(nn.Module):
    """Layers one after another, any Linen modules; layer i owns the parameters `layers_i`.

    The same value twice is two layers of equal shape, not one layer with shared weights.
    """

    layers: tuple[nn.Module, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "layers", tuple(map(_own, self.layers)))
        super().__post_init__()

    def __call__(self, x: Array, train: bool = False) -> Array:
        for layer in self.layers:
            x = call(layer, x, train)
            if isinstance(layer, Chain | Residual | Concat | MaxPool | AvgPool | BlurPool):
                x = checkpoint_name(x, BLOCK)
        return x


class Residual(nn.Module):
    """x ↦ body(x) + shortcut(x) (He et al. 2016); no shortcut module means the identity."""

    body: nn.Module
    shortcut: nn.Module | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "body", _own(self.body))
        if self.shortcut is not None:
            object.__setattr__(self, "shortcut", _own(self.shortcut))
        super().__post_init__()

    def __call__(self, x: Array, train: bool = False) -> Array:
        skip = x if self.shortcut is None else call(self.shortcut, x, train)
        y = call(self.body, x, train)
        if y.shape != skip.shape:
            raise InputError(
                f"Residual adds shapes {y.shape} and {skip.shape}: give it a "
                "shortcut that ends in the body's shape"
            )
        return y + skip


class Concat(nn.Module):
    """The same input through several branches, their outputs side by side in the channels."""

    branches: tuple[nn.Module, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "branches", tuple(map(_own, self.branches)))
        super().__post_init__()

    def __call__(self, x: Array, train: bool = False) -> Array:
        outputs = [call(branch, x, train) for branch in self.branches]
        spatial = {y.shape[:-1] for y in outputs}
        if len(spatial) > 1:
            raise InputError(f"Concat end in different sizes {sorted(spatial)}: pad them alike")
        return jnp.concatenate(outputs, axis=-1)


def _own(layer: nn.Module) -> nn.Module:
    """Return a copy that stands nowhere else: Flax takes one object for one set of weights."""
    return layer.clone() if layer.parent is None else layer


def call(layer: nn.Module, x: Array, train: bool) -> Array:
    """Apply `layer`, telling it whether this is training if its `__call__` wants to know.

    An `InputError` of the layer becomes a `LayerError`, which says which layer it was.
    """
    try:
        return layer(x, train=train) if _takes_train(type(layer).__call__) else layer(x)
    except LayerError:
        raise
    except InputError as error:
        raise LayerError("/".join(layer.path), str(error)) from error


@cache
def _takes_train(function: Callable[..., Array]) -> bool:
    return "train" in inspect.signature(function).parameters
