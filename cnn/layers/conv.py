"""The rungs of the ladder: layers that differ in locality and sharing, and in nothing else."""

from __future__ import annotations

import math
from collections.abc import Callable

from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers.initializers import normal
from cnn.ops import Padding, PaddingMode, Size


class ConvBase(nn.Module):
    """The fields that the rungs of the ladder share. Not a layer itself.

    `window`, `strides` and `dilation` are per spatial axis, `padding` and `padding_mode` as in
    `cnn.ops.conv`. Input `(batch, *spatial, c_in)`, output `(batch, *out_spatial, features)`.
    A wrong field or an input that is too small raises `InputError` at `init` and `apply`.
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

    def _window(self, x: Array) -> tuple[int, ...]:
        if x.ndim < 3:
            raise InputError(
                f"{type(self).__name__} needs (batch, *spatial, channels) but the input has shape "
                f"{x.shape}: reshape it, or use Dense"
            )
        return ops.per_axis(self.window, x.ndim - 2, "window")

    def _placed(self, x: Array) -> ops.WindowSpec:
        window = self._window(x)
        return ops.window_spec(x.shape[1:-1], window, self.strides, self.padding, self.dilation)

    def _channels(self, x: Array) -> tuple[int, int]:
        c_in = x.shape[-1]
        for name, channels in (("input channels", c_in), ("features", self.features)):
            if self.groups < 1 or channels % self.groups:
                raise InputError(
                    f"groups {self.groups} does not divide {name} {channels}: choose a divisor"
                )
        return c_in // self.groups, self.features

    def _weights(
        self, kernel: tuple[int, ...], bias: tuple[int, ...], fan_in: int
    ) -> tuple[Array, Array | None]:
        return self.param("kernel", normal(self.scale, fan_in), kernel), self._bias(bias)

    def _bias(self, shape: tuple[int, ...]) -> Array | None:
        return self.param("bias", nn.initializers.zeros_init(), shape) if self.use_bias else None

    def _convolve(self, op: Callable[..., Array], x: Array, positions: tuple[int, ...]) -> Array:
        """Apply `op` with a kernel whose first axes are `positions`: where it is not shared."""
        window, channels = self._window(x), self._channels(x)
        kernel, bias = self._weights(
            (*positions, *window, *channels),
            (*positions, self.features),
            math.prod(window) * channels[0],
        )
        return op(
            x,
            kernel,
            bias,
            strides=self.strides,
            padding=self.padding,
            padding_mode=self.padding_mode,
            dilation=self.dilation,
            groups=self.groups,
        )


class Conv(ConvBase):
    """Convolution: one kernel `(*window, c_in / groups, features)` for all positions."""

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return self._convolve(ops.conv, x, ())


class ConvTiled(ConvBase):
    """Tiled convolution (Le et al. 2010): output position p uses kernel p mod `period`.

    Kernel `(*period, *window, c_in / groups, features)`, bias `(*period, features)`.
    """

    period: Size = 2

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return self._convolve(ops.conv_tiled, x, ops.per_axis(self.period, x.ndim - 2, "period"))


class ConvLocal(ConvBase):
    """Locally connected layer: a kernel and a bias of its own at every output position.

    Kernel `(*out_spatial, *window, c_in / groups, features)`, bias `(*out_spatial, features)`.
    """

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        return self._convolve(ops.conv_local, x, self._placed(x).out)


class DenseSpatial(ConvBase):
    """Fully connected layer between maps: every output position sees every input position.

    Kernel `(*in_spatial, c_in, *out_spatial, features)`, the fourth-order tensor from which a
    convolution is derived (Zhang et al., Dive into Deep Learning, eq. 7.1.1), bias
    `(*out_spatial, features)`. The windowed fields only say how large the output map is: as large
    as that of the convolution with the same fields. With a `radius` Δ, an output position keeps
    the weights to the inputs at most Δ from the centre of that convolution's window (eq. 7.1.3:
    [H]_i,j for |a|, |b| ≤ Δ), the others count as zero: locality without a convolution.
    `groups` must be 1, `padding_mode` "zeros", or "circular" to measure the distance around.
    """

    radius: int | None = None

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        if self.groups != 1 or self.padding_mode not in ("zeros", "circular"):
            raise InputError(
                f"groups {self.groups} and padding_mode {self.padding_mode!r} mean nothing to "
                "DenseSpatial, which sees the whole input: leave them out"
            )
        at = self._placed(x)
        sees = ops.within(at, self.radius, self.padding_mode)
        fan_in = max(math.prod(int(axis.sum(0).max()) for axis in sees), 1) * x.shape[-1]
        out = (*at.out, self.features)
        kernel, bias = self._weights((*x.shape[1:], *out), out, fan_in)
        if self.radius is not None:
            kernel = kernel * ops.outer(sees, kernel.dtype)
        return ops.dense_spatial(x, kernel, bias)


class SeparableConv(ConvBase):
    """A convolution factored into space and channels: depthwise, then pointwise (Chollet 2017).

    `multiplier` m filters per input channel, `depthwise_kernel` `(*window, 1, c_in · m)`, then a
    mixture of the channels, `pointwise_kernel` `(c_in · m, features)`: with a window of k×k it has
    k²·c_in·m + c_in·m·features weights where `Conv` has k²·c_in·features. Nothing stands between
    the two, so there is one bias, and the depthwise kernel starts without the gain for a ReLU.
    `groups` must be 1.
    """

    multiplier: int = 1

    @nn.compact
    def __call__(self, x: Float[Array, "batch *spatial c_in"]) -> Float[Array, "batch *out c_out"]:
        if self.groups != 1:
            raise InputError(
                f"groups {self.groups} mean nothing to SeparableConv, in which every channel is a "
                "group: leave them out"
            )
        window, inner = self._window(x), x.shape[-1] * self.multiplier
        depthwise = normal(1.0, math.prod(window))
        pointwise = normal(self.scale, inner)
        return ops.separable_conv(
            x,
            self.param("depthwise_kernel", depthwise, (*window, 1, inner)),
            self.param("pointwise_kernel", pointwise, (inner, self.features)),
            self._bias((self.features,)),
            strides=self.strides,
            padding=self.padding,
            padding_mode=self.padding_mode,
            dilation=self.dilation,
        )
