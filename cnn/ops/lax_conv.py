"""The definition of convolution: a call of `lax.conv_general_dilated`."""

from collections.abc import Callable
from functools import partial

from jax import lax
from jaxtyping import Array

from cnn.ops.window import WindowSpec, channels_last


def lax_conv(spec: WindowSpec, groups: int = 1) -> Callable[[Array, Array], Array]:
    """Return the convolution of an input with a kernel, both with channels last."""
    return partial(
        lax.conv_general_dilated,
        window_strides=spec.strides,
        padding=spec.pairs,
        rhs_dilation=spec.dilation,
        dimension_numbers=channels_last(len(spec.window) + 2),
        feature_group_count=groups,
    )
