"""Parts of several networks."""

from flax import linen as nn

from cnn.errors import InputError
from cnn.layers import Conv, Norm, normalization
from cnn.ops import Padding


def conv_norm(
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
    """Return a two-dimensional convolution and its normalization, as layers of a `Chain`.

    By default the padding is half the window, which keeps the size at stride 1, and there is a
    bias only without normalization, which would subtract it.
    """
    padding = window // 2 if padding is None else padding
    use_bias = norm == "none" if use_bias is None else use_bias
    layer = Conv(features, (window, window), strides, padding, groups=groups, use_bias=use_bias)
    return (layer, *normalization(norm, features, epsilon))


def scale_channels(channels: int, width: float) -> int:
    """Return `width * channels`, rounded, at least 1."""
    if not 0 < width < float("inf"):
        raise InputError(f"width must be positive and finite, got {width}")
    return max(1, round(channels * width))
