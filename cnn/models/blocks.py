"""What several networks are made of."""

from __future__ import annotations

from flax import linen as nn

from cnn.errors import InputError
from cnn.layers import Conv, Norm, normalization
from cnn.ops import Padding


def conv(
    features: int,
    window: int,
    strides: int = 1,
    *,
    norm: Norm,
    padding: Padding | None = None,
    groups: int = 1,
    use_bias: bool | None = None,
    epsilon: float = 1e-5,
) -> tuple[nn.Module, ...]:
    """Convolution over two axes, then normalisation: to be spliced into a `Chain`.

    Padding is half the window on all sides if not given, so that stride 1 keeps the size. There is
    a bias where no normalisation follows, which would subtract it again; `use_bias` overrules this.
    """
    layer = Conv(
        features,
        (window, window),
        strides,
        window // 2 if padding is None else padding,
        groups=groups,
        use_bias=norm == "none" if use_bias is None else use_bias,
    )
    return (layer, *normalization(norm, features, epsilon))


def scaled(channels: int, width: float) -> int:
    """Return `width` times as many channels, rounded, at least one.

    Raises `InputError` for a width that is not positive.
    """
    if not 0 < width < float("inf"):
        raise InputError(f"width {width} cannot be: give a positive factor, such as 0.5")
    return max(1, round(channels * width))
