"""The keyword arguments that the convolutions share."""

from typing import TypedDict

from cnn.ops.checks import check_kernel
from cnn.ops.padding import PaddingMode
from cnn.ops.window import Padding, Size, WindowSpec, window_spec


class WindowOptions(TypedDict, total=False):
    """Where the windows are; all optional, with the defaults of `cnn.ops.conv`."""

    strides: Size
    padding: Padding
    padding_mode: PaddingMode
    dilation: Size


class ConvOptions(WindowOptions, total=False):
    """`WindowOptions`, and the number of channel groups."""

    groups: int


def conv_spec(
    x_shape: tuple[int, ...],
    kernel_shape: tuple[int, ...],
    positions: int = 0,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
    groups: int = 1,
) -> tuple[WindowSpec, PaddingMode, int]:
    """Check the shapes of a convolution; return its windows, padding mode and groups.

    `positions` is the number of leading kernel axes that are output positions.
    """
    check_kernel(x_shape, kernel_shape, groups, positions)
    window = kernel_shape[positions:-2]
    return window_spec(x_shape[1:-1], window, strides, padding, dilation), padding_mode, groups
