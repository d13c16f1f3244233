"""ResNet-18."""

from flax import linen as nn

from cnn.layers import Chain, Dense, GlobalAvgPool, MaxPool, Norm, ReLU, Residual
from cnn.models.blocks import conv_norm, scale_channels


def resnet18(num_classes: int = 1000, width: float = 1.0, norm: Norm = "batch") -> Chain:
    """Return ResNet-18 (He et al. 2016, table 1). For 224×224×3; 11,689,512 parameters."""
    c1, c2, c3, c4 = (scale_channels(c, width) for c in (64, 128, 256, 512))
    return Chain(
        (
            *(*conv_norm(c1, 7, 2, norm=norm), ReLU(), MaxPool((3, 3), strides=2, padding=1)),
            *(*_block(c1, 1, norm), *_block(c1, 1, norm)),
            *(*_block(c2, 2, norm), *_block(c2, 1, norm)),
            *(*_block(c3, 2, norm), *_block(c3, 1, norm)),
            *(*_block(c4, 2, norm), *_block(c4, 1, norm)),
            GlobalAvgPool(),
            Dense(num_classes, scale=1.0),
        )
    )


def _block(features: int, strides: int, norm: Norm) -> tuple[nn.Module, ...]:
    """Return two 3×3 convolutions with a shortcut, which is a 1×1 convolution at stride 2."""
    first, second = conv_norm(features, 3, strides, norm=norm), conv_norm(features, 3, norm=norm)
    shortcut = Chain(conv_norm(features, 1, strides, norm=norm)) if strides > 1 else None
    return Residual(Chain((*first, ReLU(), *second)), shortcut), ReLU()
