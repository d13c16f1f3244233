"""Networks of papers that ask what a bias is worth."""

from __future__ import annotations

from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import Chain, Conv, Dense, Flatten, GlobalMaxPool, Norm, ReLU, normalization
from cnn.models.blocks import conv
from cnn.ops import Padding, PaddingMode


def s_conv(num_classes: int = 10, alpha: int = 32, norm: Norm = "batch") -> Chain:
    """S-CONV, shallow (Neyshabur 2020, figure 1): α channels of 9×9 with stride 2, 24α hidden.

    6,144 α² + 533 α + 10 parameters on 32×32×3, here with half a window of zeros
    around the image, so that its map is 16×16. Every layer but the last is normalised.
    """
    return _neyshabur(num_classes, 9, [(alpha, 2)], 24 * alpha, norm)


def d_conv(num_classes: int = 10, alpha: int = 32, norm: Norm = "batch") -> Chain:
    """D-CONV, deep (Neyshabur 2020, figure 1): eight 3×3 layers from α to 16α, 64α hidden.

    6,382 α² + 885 α + 10 parameters on 32×32×3.
    """
    widths = ((1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2))
    plan = [(factor * alpha, strides) for factor, strides in widths]
    return _neyshabur(num_classes, 3, plan, 64 * alpha, norm)


def _neyshabur(
    num_classes: int, window: int, plan: Sequence[tuple[int, int]], hidden: int, norm: Norm
) -> Chain:
    """Convolutions, `plan` their channels and strides, and one hidden layer."""
    layers: list[nn.Module] = []
    for features, strides in plan:
        layers += [*conv(features, window, strides, norm=norm), ReLU()]
    dense = (Dense(hidden, use_bias=norm == "none"), *normalization(norm, hidden), ReLU())
    return Chain((*layers, Flatten(), *dense, Dense(num_classes, scale=1.0)))


def full_conv(
    num_classes: int = 2,
    channels: Sequence[int] = (32, 32, 64, 64),
    padding: Padding = "FULL",
    padding_mode: PaddingMode = "zeros",
) -> Chain:
    """Four 3×3 convolutions and global max-pooling (Kayhan & van Gemert 2020).

    Only the border tells this network where something is: with `padding="FULL"` every pixel is
    seen by every weight, with 1 (same) or "VALID" those near the border are not. Strides 1, 2, 2,
    2, no bias in the convolutions: 65,506 parameters on RGB.
    """
    strides = (1, *[2] * (len(channels) - 1))
    layers = [
        part
        for features, step in zip(channels, strides, strict=True)
        for part in (Conv(features, (3, 3), step, padding, padding_mode, use_bias=False), ReLU())
    ]
    return Chain((*layers, GlobalMaxPool(), Dense(num_classes, scale=1.0)))
