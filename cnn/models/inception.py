"""Inception: windows of several sizes side by side, each after a 1×1 convolution."""

from collections.abc import Callable, Sequence

from flax import linen as nn

from cnn.layers import (
    Chain,
    Concat,
    Dense,
    Dropout,
    GlobalAvgPool,
    LocalResponseNorm,
    MaxPool,
    Norm,
    ReLU,
)
from cnn.models.blocks import conv_norm, scale_channels

_Unit = Callable[..., tuple[nn.Module, ...]]
_Sizes = tuple[int, int, int, int, int, int]

# Szegedy et al. (2015), table 1: #1×1, #3×3 reduce, #3×3, #5×5 reduce, #5×5, pool proj
_STAGE_3 = ((64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64))
_STAGE_4 = (
    (192, 96, 208, 16, 48, 64),
    (160, 112, 224, 24, 64, 64),
    (128, 128, 256, 24, 64, 64),
    (112, 144, 288, 32, 64, 64),
    (256, 160, 320, 32, 128, 128),
)
_STAGE_5 = ((256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128))

# Padding that keeps the last, incomplete window of a pooling ("ceil mode").
_CEIL = ((0, 1), (0, 1))


def googlenet(
    num_classes: int = 1000,
    width: float = 1.0,
    norm: Norm | None = None,
    torchvision_compatible: bool = False,
    dropout: float | None = None,
) -> Chain:
    """Return GoogLeNet (Szegedy et al. 2015, table 1), without the auxiliary classifiers.

    For 224×224×3, at least 31×31; 6,998,552 parameters. With `torchvision_compatible`, the network
    that torchvision calls GoogLeNet: 3×3 instead of 5×5, batch normalization, 2×2 in the last
    max-pooling, dropout 0.2; 6,624,904 parameters. `norm` and `dropout` are by default those of
    the paper or of torchvision; `norm="none"` in the paper means two local response normalizations.
    """
    if norm is None:
        norm = "batch" if torchvision_compatible else "none"
    if dropout is None:
        dropout = 0.2 if torchvision_compatible else 0.4
    unit = _units(width, norm, epsilon=1e-3 if torchvision_compatible else 1e-5)
    pool = MaxPool((3, 3), strides=2, padding=_CEIL)
    last_pool = MaxPool((2, 2), padding=_CEIL) if torchvision_compatible else pool
    response = () if torchvision_compatible or norm != "none" else (LocalResponseNorm(),)

    def stage(plan: Sequence[_Sizes]) -> list[Concat]:
        return [_inception(unit, sizes, large=3 if torchvision_compatible else 5) for sizes in plan]

    return Chain(
        (
            *(*unit(64, 7, 2), pool, *response),
            *(*unit(64, 1), *unit(192, 3), *response, pool),
            *(*stage(_STAGE_3), pool),
            *(*stage(_STAGE_4), last_pool),
            *stage(_STAGE_5),
            GlobalAvgPool(),
            Dropout(dropout),
            Dense(num_classes, scale=1.0),
        )
    )


def small_inception(num_classes: int = 10, width: float = 1.0, norm: Norm = "batch") -> Chain:
    """Return a 3×3 convolution and the first three blocks of GoogLeNet.

    For 32×32×3, at least 4×4; 910,602 parameters.
    """
    unit = _units(width, norm)
    blocks = [_inception(unit, sizes) for sizes in (*_STAGE_3, _STAGE_4[0])]
    pool = MaxPool((2, 2))
    head = (GlobalAvgPool(), Dense(num_classes, scale=1.0))
    return Chain((*unit(64, 3), pool, *blocks[:2], pool, blocks[2], *head))


def _inception(unit: _Unit, sizes: _Sizes, large: int = 5) -> Concat:
    """Return four branches; `sizes` is a row of table 1, `large` the window called 5×5 there."""
    one, three_in, three, five_in, five, pooled = sizes
    return Concat(
        (
            Chain(unit(one, 1)),
            Chain((*unit(three_in, 1), *unit(three, 3))),
            Chain((*unit(five_in, 1), *unit(five, large))),
            Chain((MaxPool((3, 3), strides=1, padding=1), *unit(pooled, 1))),
        )
    )


def _units(width: float, norm: Norm, epsilon: float = 1e-5) -> _Unit:
    """Return a function from `(features, window, strides=1)` to convolution, norm and ReLU."""

    def unit(features: int, window: int, strides: int = 1) -> tuple[nn.Module, ...]:
        features = scale_channels(features, width)
        return *conv_norm(features, window, strides, norm=norm, epsilon=epsilon), ReLU()

    return unit
