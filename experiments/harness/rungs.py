"""The networks of the ladder: one architecture with more, fewer and other inductive biases."""

from __future__ import annotations

import itertools
from typing import TYPE_CHECKING

from etils import epy

with epy.lazy_imports():
    from cnn import ablations, layers, models
    from cnn import data as datasets

if TYPE_CHECKING:
    from flax import linen as nn

    from cnn import ops
    from cnn.data import Dataset


GROUPS = ("flip", "p4m", "p4")
"""Rungs with more sharing than a convolution: "flip" on signals, the others on images."""
MIXING, ATTENTION = "mixing", "attention"
"""Rungs beside the convolution."""


def base(data: Dataset, channels: int | None = None) -> layers.Chain:
    """Return strided convolutions and a linear head, for signals or for images."""
    if len(data.input_shape) == 2:
        return models.cnn1d(data.num_classes, channels or 25)
    conv = layers.Conv(channels or 16, (3, 3), 2, padding=1)
    head = layers.Dense(data.num_classes, scale=1.0)
    return layers.Chain((*(conv, layers.ReLU()) * 2, layers.Flatten(), head))


def mean_head(data: Dataset) -> nn.Module:
    """Return `base` with the mean over positions in place of the flattened map."""
    *body, _, head = base(data).layers
    return layers.Chain((*body, layers.GlobalAvgPool(), head))


def pooled(data: Dataset) -> layers.Chain:
    """Return convolutions of stride 1 with max-pooling, which keep reflections and rotations."""
    rank = len(data.input_shape) - 1
    features, windows = (24, (5, 3, 3)) if rank == 1 else (16, (3, 3))
    pool = layers.MaxPool((2,) * rank)
    body = [
        layer
        for n in windows
        for layer in (layers.Conv(features, (n,) * rank, padding=n // 2), layers.ReLU(), pool)
    ]
    return layers.Chain((*body, layers.Flatten(), layers.Dense(data.num_classes, scale=1.0)))


def ends(conv: nn.Module) -> dict[str, nn.Module]:
    """Return a convolutional network and what is left of it without sharing and locality."""
    return {"conv": conv, "local": ablations.unshare(conv), "dense": ablations.densify(conv)}


def standard(data: Dataset) -> dict[str, nn.Module]:
    """Return the models by name, from the strongest bias to none."""
    conv = base(data)
    tiled = {f"tiled-{period}": ablations.tile(conv, period) for period in (2, 4)}
    flat = {"mlp": models.mlp(data.num_classes), "logistic": models.logistic(data.num_classes)}
    one, *others = ends(conv).items()
    return dict([one, *tiled.items(), *others, *flat.items()])


def mixing(conv: layers.Chain) -> nn.Module:
    """Return `conv` with its convolutions beyond the first in two steps: positions, channels."""

    def steps(i: int, layer: nn.Module) -> tuple[nn.Module, ...]:
        if i == 0 or not isinstance(layer, layers.Conv):
            return (layer,)
        over_positions = layers.TokenMixing(
            layer.features, layer.window, padding=layer.padding, scale=1.0
        )
        return over_positions, layers.Conv(layer.features, 1)

    return layers.Chain(tuple(itertools.chain(*map(steps, itertools.count(), conv.layers))))


def both_directions(data: Dataset) -> dict[str, nn.Module]:
    """Return `pooled` from more sharing than a convolution has to attention, which learns it."""
    conv, is_signal = pooled(data), len(data.input_shape) == 2
    groups: tuple[ops.Group, ...] = ("flip",) if is_signal else ("p4m", "p4")
    return {
        **{group: ablations.symmetrize(conv, group) for group in groups},
        **ends(conv),
        MIXING: mixing(conv),
        ATTENTION: ablations.attend(conv, locality=1e-3, gate=0.0),
    }


def permuted(data: Dataset, seed: int) -> Dataset:
    """Return the data with its positions in an order that the seed draws."""
    return datasets.permute(data, datasets.permutation(data.input_shape[:-1], seed))
