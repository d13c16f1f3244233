"""The pooling operations of `cnn.ops` as layers. They have no parameters."""

from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.ops import Padding, Size


class MaxPool(nn.Module):
    """Largest value in each window (`cnn.ops.max_pool`); the stride defaults to the window."""

    window: Size
    strides: Size | None = None
    padding: Padding = "VALID"
    dilation: Size = 1

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *out c"]:
        return ops.max_pool(
            x, self.window, strides=self.strides, padding=self.padding, dilation=self.dilation
        )


class AvgPool(nn.Module):
    """Mean of each window (`cnn.ops.avg_pool`), excluding padding unless `count_padding`."""

    window: Size
    strides: Size | None = None
    padding: Padding = "VALID"
    count_padding: bool = False

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *out c"]:
        return ops.avg_pool(
            x,
            self.window,
            strides=self.strides,
            padding=self.padding,
            count_padding=self.count_padding,
        )


class AdaptiveAvgPool(nn.Module):
    """Mean of each of `output_size` bins that cover the input (`cnn.ops.adaptive_avg_pool`)."""

    output_size: Size

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *out c"]:
        return ops.adaptive_avg_pool(x, self.output_size)


class AdaptiveMaxPool(nn.Module):
    """Largest value in each of `output_size` bins (`cnn.ops.adaptive_max_pool`)."""

    output_size: Size

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *out c"]:
        return ops.adaptive_max_pool(x, self.output_size)


class BlurPool(nn.Module):
    """A binomial blur, then subsampling (Zhang 2019; `cnn.ops.blur_pool`)."""

    window: int = 3
    strides: Size = 2

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch *out c"]:
        return ops.blur_pool(x, self.window, self.strides)


class Maxout(nn.Module):
    """Largest value of each `group` of adjacent channels (Goodfellow et al. 2013)."""

    group: int

    def __call__(self, x: Float[Array, "*shape c"]) -> Float[Array, "*shape out"]:
        return ops.max_pool_channels(x, self.group)


class GlobalAvgPool(nn.Module):
    """Mean over all positions: `(batch, *spatial, c)` to `(batch, c)`."""

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch c"]:
        return ops.global_avg_pool(x)


class GlobalMaxPool(nn.Module):
    """Largest value over all positions: `(batch, *spatial, c)` to `(batch, c)`."""

    def __call__(self, x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch c"]:
        return ops.global_max_pool(x)
