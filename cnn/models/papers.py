"""Networks of papers on the value of inductive biases."""

from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import Chain, Conv, Dense, Flatten, GlobalMaxPool, Norm, ReLU, normalization
from cnn.models.blocks import conv_norm
from cnn.ops import Padding, PaddingMode


def s_conv(num_classes: int = 10, alpha: int = 32, norm: Norm = "batch") -> Chain:
    """Return S-CONV (Neyshabur 2020, figure 1): α channels of 9×9, stride 2, and 24α hidden units.

    For 32×32×3; 6,144 α² + 533 α + 10 parameters. The padding is half a window, so the map is
    16×16. Every layer but the last is normalized.
    """
    return _neyshabur(num_classes, 9, [(alpha, 2)], 24 * alpha, norm)


def d_conv(num_classes: int = 10, alpha: int = 32, norm: Norm = "batch") -> Chain:
    """Return D-CONV (Neyshabur 2020, figure 1): eight 3×3 layers, α to 16α channels, 64α hidden.

    For 32×32×3; 6,382 α² + 885 α + 10 parameters.
    """
    widths = ((1, 1), (2, 2), (2, 1), (4, 2), (4, 1), (8, 2), (8, 1), (16, 2))
    plan = [(factor * alpha, strides) for factor, strides in widths]
    return _neyshabur(num_classes, 3, plan, 64 * alpha, norm)


def _neyshabur(
    num_classes: int, window: int, plan: Sequence[tuple[int, int]], hidden: int, norm: Norm
) -> Chain:
    """Return convolutions, with channels and strides by `plan`, and one hidden layer."""
    layers: list[nn.Module] = []
    for features, strides in plan:
        layers += [*conv_norm(features, window, strides, norm=norm), ReLU()]
    dense = (Dense(hidden, use_bias=norm == "none"), *normalization(norm, hidden), ReLU())
    return Chain((*layers, Flatten(), *dense, Dense(num_classes, scale=1.0)))


def full_conv(
    num_classes: int = 2,
    channels: Sequence[int] = (32, 32, 64, 64),
    padding: Padding = "FULL",
    padding_mode: PaddingMode = "zeros",
) -> Chain:
    """Return four 3×3 convolutions and global max-pooling (Kayhan & van Gemert 2020).

    For RGB images of any size; 65,506 parameters. Strides are 1, 2, 2, 2; there is no bias. Only
    the border tells this network the position of an object: with `padding="FULL"` every weight
    sees every pixel; with 1 or "VALID" some do not see the pixels near the border.
    """
    strides = (1, *[2] * (len(channels) - 1))
    layers = [
        layer
        for features, s in zip(channels, strides, strict=True)
        for layer in (Conv(features, (3, 3), s, padding, padding_mode, use_bias=False), ReLU())
    ]
    return Chain((*layers, GlobalMaxPool(), Dense(num_classes, scale=1.0)))
