"""Networks of depthwise-separable convolutions."""

import itertools
from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import Chain, Conv, Dense, GlobalAvgPool, MaxPool, Norm, ReLU, Residual
from cnn.models.blocks import conv_norm, scale_channels


def mobilenet_v1(num_classes: int = 1000, width: float = 1.0, norm: Norm = "batch") -> Chain:
    """Return MobileNet (Howard et al. 2017, table 1), with `width` its multiplier α.

    For 224×224×3; 4,231,976 parameters.
    """
    plan = [(32, 2), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    return _mobilenet(num_classes, [*plan, (1024, 2), (1024, 1)], width, norm)


def separable_net(num_classes: int = 10, width: float = 1.0, norm: Norm = "batch") -> Chain:
    """Return a small MobileNet of six layers. For 32×32×3; 136,778 parameters."""
    plan = [(32, 1), (64, 1), (128, 2), (128, 1), (256, 2), (256, 1)]
    return _mobilenet(num_classes, plan, width, norm)


def _mobilenet(
    num_classes: int, plan: Sequence[tuple[int, int]], width: float, norm: Norm
) -> Chain:
    """Return a 3×3 convolution and separable ones, with channels and strides by `plan`.

    Normalization and ReLU follow both the depthwise and the pointwise convolution.
    """
    scaled = [(scale_channels(channels, width), strides) for channels, strides in plan]
    layers = [*conv_norm(scaled[0][0], 3, scaled[0][1], norm=norm, padding="SAME"), ReLU()]
    for (c_in, _), (c_out, strides) in itertools.pairwise(scaled):
        depthwise = conv_norm(c_in, 3, strides, norm=norm, padding="SAME", groups=c_in)
        layers += [*depthwise, ReLU(), *conv_norm(c_out, 1, norm=norm), ReLU()]
    return Chain((*layers, GlobalAvgPool(), Dense(num_classes, scale=1.0)))


def xception(
    num_classes: int = 1000, width: float = 1.0, middle: int = 8, norm: Norm = "batch"
) -> Chain:
    """Return Xception (Chollet 2017, figure 5), with `middle` blocks in its middle flow.

    For 299×299×3; 22,855,952 parameters. Fewer blocks suit smaller images.
    """
    channels = (64, 128, 256, 728, 1024, 1536, 2048)
    c1, c2, c3, c4, c5, c6, c7 = (scale_channels(c, width) for c in channels)

    def separable(c_in: int, c_out: int) -> tuple[nn.Module, ...]:
        # No ReLU follows the depthwise convolution: it has no bias, and scale 1.
        depthwise = Conv(c_in, (3, 3), padding="SAME", groups=c_in, use_bias=False, scale=1.0)
        return depthwise, *conv_norm(c_out, 1, norm=norm)

    def units(*channels: int) -> Chain:
        pairs = itertools.pairwise(channels)
        return Chain(tuple(layer for pair in pairs for layer in (ReLU(), *separable(*pair))))

    def shrink(*channels: int) -> Residual:
        body = Chain((units(*channels), MaxPool((3, 3), strides=2, padding="SAME")))
        return Residual(body, Chain(conv_norm(channels[-1], 1, 2, norm=norm)))

    return Chain(
        (
            *(*conv_norm(scale_channels(32, width), 3, 2, norm=norm, padding="VALID"), ReLU()),
            *(*conv_norm(c1, 3, norm=norm, padding="VALID"), ReLU()),
            *(shrink(c1, c2, c2), shrink(c2, c3, c3), shrink(c3, c4, c4)),
            *[Residual(units(c4, c4, c4, c4)) for _ in range(middle)],
            shrink(c4, c4, c5),
            *(*separable(c5, c6), ReLU(), *separable(c6, c7), ReLU()),
            GlobalAvgPool(),
            Dense(num_classes, scale=1.0),
        )
    )
