"""The definition of convolution: a call of `lax.conv_general_dilated`."""

from collections.abc import Callable
from functools import partial

from jax import lax
from jaxtyping import Array

from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec, channels_last, dilated


def lax_conv(spec: WindowSpec, groups: int = 1) -> Callable[[Array, Array], Array]:
    """Return the convolution of an input with a kernel, both with channels last.

    XLA on a CPU reads other memory where a convolution has negative padding before the input and
    positive padding after it (openxla/xla, issue 48713). So has the gradient by the input where
    padding before it is a whole window or more. Such padding is done beforehand.
    """
    ends = zip(spec.pairs, dilated(spec.window, spec.dilation), strict=True)
    is_usual = all(lo < d and not lo < 0 < hi for (lo, hi), d in ends)
    within = spec if is_usual else spec.on_padded
    convolve = partial(
        lax.conv_general_dilated,
        window_strides=within.strides,
        padding=within.pairs,
        rhs_dilation=within.dilation,
        dimension_numbers=channels_last(len(within.window) + 2),
        feature_group_count=groups,
    )
    if is_usual:
        return convolve
    return lambda x, kernel: convolve(pad_constant(0.0, x, spec.pairs), kernel)
