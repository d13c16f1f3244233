"""Convolution and its less biased relatives: they differ in locality and weight sharing only."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers.initializers import check_features, fan_in_normal
from cnn.ops import Padding, PaddingMode, Size
from cnn.ops.checks import check_groups


class ConvBase(nn.Module):
    """The fields that the layers of this module share. Not a layer itself.

    Maps `(batch, *spatial, c_in)` to `(batch, *out_spatial, features)`.

    Attributes:
      features: The number of output channels.
      window: The window size, an int or one int per spatial axis.
      strides: See `cnn.ops.conv`, as for `padding`, `padding_mode`, `dilation` and `groups`.
      use_bias: Whether to add a bias, which starts at zero.
      scale: Kernels start from N(0, scale / fan_in); see `fan_in_normal`.
    """

    features: int
    window: Size
    strides: Size = 1
    padding: Padding = "VALID"
    padding_mode: PaddingMode = "zeros"
    dilation: Size = 1
    groups: int = 1
    use_bias: bool = True
    scale: float = 2.0

    @nn.nowrap
    def fan_in(self, shape: Sequence[int]) -> int:
        """Return how many numbers of an input `(*spatial, c_in)` an output depends on."""
        window = ops.per_axis(self.window, len(shape) - 1, "window")
        return math.prod(window) * shape[-1] // self.groups

    @nn.nowrap
    def positions(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the number of kernels per axis; empty if one is for all positions."""
        return ()

    def _window(self, x: Array) -> tuple[int, ...]:
        if x.ndim < 3:
            raise InputError(
                f"the input of {type(self).__name__} must have the shape (batch, *spatial, "
                f"channels), got {x.shape}: reshape it, or use Dense"
            )
        check_features(self.features)
        return ops.per_axis(self.window, x.ndim - 2, "window")

    @nn.nowrap
    def _spec(self, size: Sequence[int]) -> ops.WindowSpec:
        return ops.window_spec(size, self.window, self.strides, self.padding, self.dilation)

    def _options(self) -> ops.WindowOptions:
        return {
            "strides": self.strides,
            "padding": self.padding,
            "padding_mode": self.padding_mode,
            "dilation": self.dilation,
        }

    def _kernel(self, shape: tuple[int, ...], fan_in: int) -> Array:
        return self.param("kernel", fan_in_normal(self.scale, fan_in), shape)

    def _bias(self, shape: tuple[int, ...]) -> Array | None:
        return self.param("bias", nn.initializers.zeros_init(), shape) if self.use_bias else None

    def _convolve(self, op: Callable[..., Array], x: Array, tied_bias: bool = False) -> Array:
        """Apply `op` with a kernel for each of the positions, and a bias unless `tied_bias`."""
        window, c_in = self._window(x), x.shape[-1]
        positions = self.positions(x.shape[1:-1])
        check_groups(self.groups, {"input channels": c_in, "features": self.features})
        kernel_shape = (*positions, *window, c_in // self.groups, self.features)
        kernel = self._kernel(kernel_shape, self.fan_in(x.shape[1:]))
        bias = self._bias((self.features,) if tied_bias else (*positions, self.features))
        return op(x, kernel, bias, groups=self.groups, **self._options())


class Conv(ConvBase):
    """Convolution: one kernel `(*window, c_in / groups, features)` for all positions."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return self._convolve(ops.conv, x)


class ConvTiled(ConvBase):
    """Tiled convolution (Le et al. 2010): output position p uses kernel p mod `period`.

    Kernel `(*period, *window, c_in / groups, features)`, bias `(*period, features)`. Where the
    output is smaller than the period, each of its positions has a kernel.

    Attributes:
      tied_bias: Whether one bias `(features,)` is for all positions.
    """

    period: Size = 2
    tied_bias: bool = False

    @nn.nowrap
    def positions(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the period, or the output size where that is smaller."""
        period = ops.per_axis(self.period, len(size), "period")
        return tuple(map(min, period, self._spec(size).out))

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return self._convolve(ops.conv_tiled, x, self.tied_bias)


class ConvLocal(ConvBase):
    """Locally connected layer: a separate kernel and bias at every output position.

    Kernel `(*out_spatial, *window, c_in / groups, features)`, bias `(*out_spatial, features)`.

    Attributes:
      tied_bias: Whether one bias `(features,)` is for all positions.
    """

    tied_bias: bool = False

    @nn.nowrap
    def positions(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the output size."""
        return self._spec(size).out

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return self._convolve(ops.conv_local, x, self.tied_bias)


class DenseSpatial(ConvBase):
    """Fully connected layer between maps: every output position sees every input position.

    Kernel `(*in_spatial, c_in, *out_spatial, features)`, the fourth-order tensor from which a
    convolution is derived (Zhang et al., Dive into Deep Learning, eq. 7.1.1), bias
    `(*out_spatial, features)`. The output has the size of a convolution with the same fields, and
    that is all that `window`, `strides`, `padding` and `dilation` set.

    Attributes:
      radius: Δ. Each output keeps the weights to inputs at most Δ from the centre of the
        convolution's window, and the others count as zero (eq. 7.1.3: [H]_i,j for |a|, |b| ≤ Δ):
        locality without weight sharing. None keeps all weights.
      padding_mode: "zeros", or "circular" to measure the distance around the border.
    """

    radius: int | None = None

    @nn.nowrap
    def fan_in(self, shape: Sequence[int]) -> int:
        """Return how many numbers of an input `(*spatial, c_in)` an output depends on, at most."""
        seen = [int(mask.sum(0).max()) for mask in self._masks(shape[:-1])]
        return max(math.prod(seen), 1) * shape[-1]

    @nn.nowrap
    def positions(self, size: Sequence[int]) -> tuple[int, ...]:
        """Return the output size."""
        return self._spec(size).out

    @nn.nowrap
    def _masks(self, size: Sequence[int]) -> list[np.ndarray]:
        return ops.radius_masks(self._spec(size), self.radius, self.padding_mode)

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        if self.groups != 1:
            raise InputError(f"groups of DenseSpatial must be 1, got {self.groups}")
        if (mode := self.padding_mode) not in ("zeros", "circular"):
            raise InputError(f"padding_mode must be 'zeros' or 'circular', got {mode!r}")
        self._window(x)
        out = (*self._spec(x.shape[1:-1]).out, self.features)
        kernel = self._kernel((*x.shape[1:], *out), self.fan_in(x.shape[1:]))
        if self.radius is not None:
            kernel = kernel * ops.dense_mask(self._masks(x.shape[1:-1]), kernel.dtype)
        return ops.dense_spatial(x, kernel, self._bias(out))


class SeparableConv(ConvBase):
    """Depthwise separable convolution: depthwise, then pointwise (Chollet 2017).

    `depthwise_kernel` `(*window, 1, c_in · m)` has m = `multiplier` filters per input channel, and
    `pointwise_kernel` `(c_in · m, features)` mixes the channels. With a k×k window that is
    k²·c_in·m + c_in·m·features weights, instead of the k²·c_in·features of `Conv`. There is no
    activation between the two, so there is one bias, and the depthwise kernel starts with scale 1.
    `groups` must be 1.
    """

    multiplier: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        if self.groups != 1:
            raise InputError(f"groups of SeparableConv must be 1, got {self.groups}")
        window, inner = self._window(x), x.shape[-1] * self.multiplier
        init = fan_in_normal(1.0, math.prod(window))
        depthwise = self.param("depthwise_kernel", init, (*window, 1, inner))
        init = fan_in_normal(self.scale, inner)
        pointwise = self.param("pointwise_kernel", init, (inner, self.features))
        bias = self._bias((self.features,))
        return ops.separable_conv(x, depthwise, pointwise, bias, **self._options())
