"""Networks of separable convolutions: space and channels each on their own."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from flax import linen as nn

from cnn.layers import (
    Chain,
    Conv,
    Dense,
    GlobalAvgPool,
    MaxPool,
    Norm,
    ReLU,
    Residual,
)
from cnn.models.blocks import conv, scaled


def mobilenet_v1(num_classes: int = 1000, width: float = 1.0, norm: Norm = "batch") -> Chain:
    """MobileNet (Howard et al. 2017, table 1), `width` its multiplier α: 4,231,976 parameters."""
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5]
    return _mobile(num_classes, (32, 2), [*plan, (1024, 2), (1024, 1)], width, norm)


def separable_net(num_classes: int = 10, width: float = 1.0, norm: Norm = "batch") -> Chain:
    """Six of MobileNet's layers at the strides of a small image: 136,778 parameters on RGB."""
    plan = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1)]
    return _mobile(num_classes, (32, 1), plan, width, norm)


def _mobile(
    num_classes: int,
    stem: tuple[int, int],
    plan: Sequence[tuple[int, int]],
    width: float,
    norm: Norm,
) -> Chain:
    """A 3×3 convolution, then separable ones; `stem` and `plan` are pairs of channels and stride.

    Normalisation and ReLU stand after the depthwise and after the pointwise half.
    """
    c_in = scaled(stem[0], width)
    layers = [*conv(c_in, 3, stem[1], norm=norm, padding="SAME"), ReLU()]
    for channels, strides in plan:
        c_out = scaled(channels, width)
        depthwise = conv(c_in, 3, strides, norm=norm, padding="SAME", groups=c_in)
        layers += [*depthwise, ReLU(), *conv(c_out, 1, norm=norm), ReLU()]
        c_in = c_out
    return Chain((*layers, GlobalAvgPool(), Dense(num_classes, scale=1.0)))


def xception(
    num_classes: int = 1000, width: float = 1.0, middle: int = 8, norm: Norm = "batch"
) -> Chain:
    """Xception (Chollet 2017, figure 5): 22,855,952 parameters, for 71×71 pixels or more.

    `middle` is the number of blocks of the middle flow; fewer make a network for smaller images.
    """
    c1, c2, c3, c4, c5, c6, c7 = (scaled(c, width) for c in (64, 128, 256, 728, 1024, 1536, 2048))

    def separable(c_in: int, c_out: int) -> tuple[nn.Module, ...]:
        # Nothing stands between the two, so the first has no bias, and no gain for a ReLU.
        first = Conv(c_in, (3, 3), padding="SAME", groups=c_in, use_bias=False, scale=1.0)
        return first, *conv(c_out, 1, norm=norm)

    def units(*channels: int) -> Chain:
        pairs = itertools.pairwise(channels)
        return Chain(tuple(layer for pair in pairs for layer in (ReLU(), *separable(*pair))))

    def shrink(*channels: int) -> Residual:
        body = Chain((units(*channels), MaxPool((3, 3), strides=2, padding="SAME")))
        return Residual(body, Chain(conv(channels[-1], 1, 2, norm=norm)))

    return Chain(
        (
            *(*conv(scaled(32, width), 3, 2, norm=norm, padding="VALID"), ReLU()),
            *(*conv(c1, 3, norm=norm, padding="VALID"), ReLU()),
            *(shrink(c1, c2, c2), shrink(c2, c3, c3), shrink(c3, c4, c4)),
            *[Residual(units(c4, c4, c4, c4)) for _ in range(middle)],
            shrink(c4, c4, c5),
            *(*separable(c5, c6), ReLU(), *separable(c6, c7), ReLU()),
            GlobalAvgPool(),
            Dense(num_classes, scale=1.0),
        )
    )
