"""A convolution factored into space and channels."""

from __future__ import annotations

from cnn.layers.compose import Chain
from cnn.layers.windowed import Conv, Size
from cnn.ops import Padding


def separable_conv(
    c_in: int,
    features: int,
    window: Size,
    strides: Size = 1,
    padding: Padding = "VALID",
    multiplier: int = 1,
    use_bias: bool = True,
) -> Chain:
    """Depthwise, then pointwise: `multiplier` filters per input channel, then a 1×1 mixture.

    With window k×k it has k²·c_in·m + c_in·m·features weights instead of k²·c_in·features. Nothing
    stands between the two (Chollet 2017), so only the second has a bias, and the depthwise kernel
    starts without the gain for a ReLU. A tuple as `window` fixes the number of spatial axes.
    """
    inner = c_in * multiplier
    depthwise = Conv(inner, window, strides, padding, groups=c_in, use_bias=False, gain=1.0)
    ones = 1 if isinstance(window, int) else (1,) * len(window)
    return Chain((depthwise, Conv(features, ones, use_bias=use_bias)))
