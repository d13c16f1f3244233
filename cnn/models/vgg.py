"""VGG: blocks of 3×3 convolutions and 2×2 max-pooling (Simonyan & Zisserman 2015, table 1)."""

from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import AdaptiveAvgPool, Chain, Dense, Dropout, Flatten, MaxPool, Norm, ReLU
from cnn.models.blocks import conv_norm, scale_channels


def vgg11(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """Return VGG-11, configuration A. For 224×224×3, at least 32×32; 132,863,336 parameters."""
    return _vgg((1, 1, 2, 2, 2), num_classes, width, norm, dropout)


def vgg13(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """Return VGG-13, configuration B. For 224×224×3, at least 32×32; 133,047,848 parameters."""
    return _vgg((2, 2, 2, 2, 2), num_classes, width, norm, dropout)


def vgg16(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """Return VGG-16, configuration D. For 224×224×3, at least 32×32; 138,357,544 parameters."""
    return _vgg((2, 2, 3, 3, 3), num_classes, width, norm, dropout)


def vgg19(
    num_classes: int = 1000, width: float = 1.0, norm: Norm = "none", dropout: float = 0.5
) -> Chain:
    """Return VGG-19, configuration E. For 224×224×3, at least 32×32; 143,667,240 parameters."""
    return _vgg((2, 2, 4, 4, 4), num_classes, width, norm, dropout)


def small_vgg(
    num_classes: int = 10,
    channels: Sequence[int] = (64, 128, 256),
    hidden: int = 256,
    norm: Norm = "none",
    dropout: float = 0.0,
) -> Chain:
    """Return three blocks of two convolutions and one hidden layer.

    For 32×32×3, at least 8×8; 2,196,810 parameters.
    """
    blocks = _blocks(channels, [2] * len(channels), norm)
    return Chain((*blocks, Flatten(), *_hidden(hidden, dropout), Dense(num_classes, scale=1.0)))


def _vgg(
    repeats: Sequence[int], num_classes: int, width: float, norm: Norm, dropout: float
) -> Chain:
    """Return five blocks, average pooling to 7×7, and two hidden layers."""
    channels = [scale_channels(c, width) for c in (64, 128, 256, 512, 512)]
    hidden = _hidden(scale_channels(4096, width), dropout)
    head = (AdaptiveAvgPool((7, 7)), Flatten(), *hidden, *hidden, Dense(num_classes, scale=1.0))
    return Chain((*_blocks(channels, repeats, norm), *head))


def _blocks(channels: Sequence[int], repeats: Sequence[int], norm: Norm) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for features, count in zip(channels, repeats, strict=True):
        # As published, the convolutions have a bias even before a normalization.
        layers += [*conv_norm(features, 3, norm=norm, use_bias=True), ReLU()] * count
        layers.append(MaxPool((2, 2)))
    return layers


def _hidden(features: int, dropout: float) -> tuple[nn.Module, ...]:
    return Dense(features), ReLU(), Dropout(dropout)
