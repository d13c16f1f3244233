"""Pure functions on channels-last arrays `(batch, *spatial, channels)`.

Invalid arguments raise `cnn.errors.InputError`, whose message is one line.
"""

from cnn.ops import filters
from cnn.ops.adaptive import adaptive_avg_pool, adaptive_max_pool
from cnn.ops.attention import positional_attention
from cnn.ops.conv import conv, convolve, depthwise_conv, pointwise_conv, separable_conv
from cnn.ops.conv_matrix import conv_matrix, dense_mask, radius_masks
from cnn.ops.dense import dense, dense_spatial, token_mixing
from cnn.ops.group import Group, conv_group, group_kernel, group_order, group_pool
from cnn.ops.locally_connected import conv_local, conv_tiled
from cnn.ops.normalization import batch_norm, group_norm, normalize
from cnn.ops.options import ConvOptions, WindowOptions
from cnn.ops.padding import PaddingMode, pad
from cnn.ops.patches import patches
from cnn.ops.pool import (
    avg_pool,
    blur_pool,
    global_avg_pool,
    global_max_pool,
    max_pool,
    max_pool_channels,
)
from cnn.ops.sizes import input_size, output_size
from cnn.ops.transpose import conv_transpose
from cnn.ops.window import Padding, Pairs, Size, WindowSpec, per_axis, resolve_padding, window_spec

__all__ = [
    "ConvOptions",
    "Group",
    "Padding",
    "PaddingMode",
    "Pairs",
    "Size",
    "WindowOptions",
    "WindowSpec",
    "adaptive_avg_pool",
    "adaptive_max_pool",
    "avg_pool",
    "batch_norm",
    "blur_pool",
    "conv",
    "conv_group",
    "conv_local",
    "conv_matrix",
    "conv_tiled",
    "conv_transpose",
    "convolve",
    "dense",
    "dense_mask",
    "dense_spatial",
    "depthwise_conv",
    "filters",
    "global_avg_pool",
    "global_max_pool",
    "group_kernel",
    "group_norm",
    "group_order",
    "group_pool",
    "input_size",
    "max_pool",
    "max_pool_channels",
    "normalize",
    "output_size",
    "pad",
    "patches",
    "per_axis",
    "pointwise_conv",
    "positional_attention",
    "radius_masks",
    "resolve_padding",
    "separable_conv",
    "token_mixing",
    "window_spec",
]
