"""Layers that share their weights over rotations and reflections. `cnn.ops.group` has the layout.

A network of them is composed like any other, in a `Chain`:

    ConvGroup(8, 3, group="p4", lifting=True), BatchNormGroup(group="p4"), ReLU(), MaxPool(3, 2),
    ConvGroup(8, 3, group="p4"), ReLU(), GroupPool("p4"), GlobalAvgPool(), Dense(10)

If the input is turned, the maps of this network are turned with it, and the output stays as it is.
A layer with weights of its own for every channel (`BatchNorm`, `GroupNorm`) or position breaks the
symmetry, and so does one that mixes neighbouring channels (`LocalResponseNorm`).
"""

from typing import Literal

import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers.conv import ConvBase
from cnn.layers.normalization import BatchNorm
from cnn.ops import Group
from cnn.ops.checks import check_groups
from cnn.ops.group import check_axes, check_features


class ConvGroup(ConvBase):
    """Lifting or group convolution (Cohen and Welling 2016), with the symmetries of `group`.

    The kernel is `(*window, c_in / groups, features)` if the layer lifts, else `(*window, |G|,
    c_in / groups, features)`, where the input has c_in features; the bias is `(features,)`. It
    computes what a `Conv` with |G| · features output channels computes, with one |G|-th of the
    weights and the same output variance.

    Attributes:
      features: The number of features. Each is |G| output channels, one per transformation.
      group: "p4" (rotations) or "p4m" (and reflections) for two axes, "flip" for one.
      lifting: Whether the input has plain channels, as an image has, and not features of `group`.
      groups: The number of groups of features.
    """

    group: Group = "p4"
    lifting: bool = False

    @nn.compact
    def __call__(
        self, x: Float[Array, "batch *spatial c_in"]
    ) -> Float[Array, "batch *out features"]:
        window, inputs, order = self._window(x), x.shape[-1], ops.group_order(self.group)
        check_axes(self.group, x.ndim - 2)
        if not self.lifting:
            if inputs % order:
                raise InputError(
                    f"input channels must be a multiple of {order}, one for each transformation of "
                    f"group {self.group!r}, got {inputs}: set lifting=True in the first layer"
                )
            window, inputs = (*window, order), inputs // order
        check_groups(self.groups, {"input features": inputs, "features": self.features})
        shape = (*window, inputs // self.groups, self.features)
        kernel = self._kernel(shape, self.fan_in(x.shape[1:]))
        bias, options = self._bias((self.features,)), self._options()
        return ops.conv_group(x, kernel, bias, group=self.group, groups=self.groups, **options)


class BatchNormGroup(BatchNorm):
    """Batch normalization with one mean, variance, scale and bias per feature of `group`.

    `BatchNorm` has one per channel. They would differ between the transformations of a feature, and
    break the symmetry.
    """

    group: Group = "p4"

    def __call__(
        self, x: Float[Array, "batch *spatial c"], train: bool = False
    ) -> Float[Array, "batch *spatial c"]:
        check_features(x.shape[-1], self.group)
        features = x.reshape(*x.shape[:-1], -1, ops.group_order(self.group))
        y = super().__call__(jnp.swapaxes(features, -1, -2), train)
        return jnp.swapaxes(y, -1, -2).reshape(x.shape)


class GroupPool(nn.Module):
    """Largest value, or mean, of each feature over its transformations (`cnn.ops.group_pool`)."""

    group: Group = "p4"
    kind: Literal["max", "mean"] = "max"

    def __call__(self, x: Float[Array, "*shape c"]) -> Float[Array, "*shape features"]:
        return ops.group_pool(x, self.group, self.kind)
