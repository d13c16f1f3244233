"""VGG: nothing but 3×3 convolutions and 2×2 max-pooling, in blocks of one width."""

from __future__ import annotations

from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import AdaptiveAvgPool, Chain, Dense, Dropout, Flatten, MaxPool, Norm, ReLU
from cnn.models.blocks import conv, scaled


def vgg11(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """VGG-11, configuration A of Simonyan & Zisserman (2015): 132,863,336 parameters."""
    return _vgg((1, 1, 2, 2, 2), num_classes, width, norm, dropout)


def vgg13(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """VGG-13, configuration B of Simonyan & Zisserman (2015): 133,047,848 parameters."""
    return _vgg((2, 2, 2, 2, 2), num_classes, width, norm, dropout)


def vgg16(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """VGG-16, configuration D of Simonyan & Zisserman (2015): 138,357,544 parameters."""
    return _vgg((2, 2, 3, 3, 3), num_classes, width, norm, dropout)


def vgg19(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """VGG-19, configuration E of Simonyan & Zisserman (2015): 143,667,240 parameters."""
    return _vgg((2, 2, 4, 4, 4), num_classes, width, norm, dropout)


def small_vgg(
    num_classes: int = 10,
    channels: Sequence[int] = (64, 128, 256),
    hidden: int = 256,
    norm: Norm = "none",
    dropout: float = 0.0,
) -> Chain:
    """VGG for small images: three blocks of two convolutions, one hidden layer.

    2,196,810 parameters on 32×32×3.
    """
    blocks = _blocks(channels, [2] * len(channels), norm)
    return Chain((*blocks, Flatten(), *_hidden(hidden, dropout), Dense(num_classes, scale=1.0)))


def _vgg(
    repeats: Sequence[int], num_classes: int, width: float, norm: Norm, dropout: float
) -> Chain:
    """Five blocks and two hidden layers, for 32×32 pixels or more (7×7 bins before the head)."""
    blocks = _blocks([scaled(c, width) for c in (64, 128, 256, 512, 512)], repeats, norm)
    hidden = _hidden(scaled(4096, width), dropout)
    head = (AdaptiveAvgPool((7, 7)), Flatten(), *hidden, *hidden, Dense(num_classes, scale=1.0))
    return Chain((*blocks, *head))


def _blocks(channels: Sequence[int], repeats: Sequence[int], norm: Norm) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for features, count in zip(channels, repeats, strict=True):
        # As published, the convolution keeps its bias also where a normalisation follows.
        layers += [*conv(features, 3, norm=norm, use_bias=True), ReLU()] * count
        layers.append(MaxPool((2, 2)))
    return layers


def _hidden(features: int, dropout: float) -> tuple[nn.Module, ...]:
    return Dense(features), ReLU(), Dropout(dropout)
