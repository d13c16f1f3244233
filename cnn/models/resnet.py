"""A residual network, as a reference with skip connections."""

from __future__ import annotations

from flax import linen as nn

from cnn.layers import Chain, Dense, GlobalAvgPool, MaxPool, Norm, ReLU, Residual
from cnn.models.blocks import conv, scaled


def resnet18(num_classes: int = 1000, width: float = 1.0, norm: Norm = "batch") -> Chain:
    """ResNet-18 (He et al. 2016, table 1): 11,689,512 parameters."""
    c1, c2, c3, c4 = (scaled(c, width) for c in (64, 128, 256, 512))
    return Chain(
        (
            *(*conv(c1, 7, 2, norm=norm), ReLU(), MaxPool((3, 3), strides=2, padding=1)),
            *(*_block(c1, 1, norm), *_block(c1, 1, norm)),
            *(*_block(c2, 2, norm), *_block(c2, 1, norm)),
            *(*_block(c3, 2, norm), *_block(c3, 1, norm)),
            *(*_block(c4, 2, norm), *_block(c4, 1, norm)),
            GlobalAvgPool(),
            Dense(num_classes, scale=1.0),
        )
    )


def _block(features: int, strides: int, norm: Norm) -> tuple[nn.Module, ...]:
    """Two 3×3 convolutions around which the input is added, projected where the stride is 2."""
    body = Chain((*conv(features, 3, strides, norm=norm), ReLU(), *conv(features, 3, norm=norm)))
    shortcut = Chain(conv(features, 1, strides, norm=norm)) if strides > 1 else None
    return Residual(body, shortcut), ReLU()
