"""Invalid input: one line that names the argument, the constraint and the value."""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import pytest

from cnn import ops
from cnn.errors import InputError
from cnn.ops import filters

X = jnp.ones((1, 4, 6, 4))
K = jnp.ones((3, 3, 4, 2))


def kernel(*shape: int) -> jnp.ndarray:
    return jnp.ones(shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: ops.conv(X, kernel(5, 3, 4, 2)),
            "window must fit into the padded size 4 on axis 1, got 5",
        ),
        (lambda: ops.conv(X, K, dilation=(1, 3)), "padded size 6 on axis 2, got 3 (dilated to 7)"),
        (
            lambda: ops.max_pool(X, 7, padding=1),
            "window must fit into the padded size 6 on axis 1, got 7",
        ),
        (lambda: ops.output_size(4, 5), "window must fit into the padded size 4 on axis 1, got 5"),
        (lambda: ops.conv(X, K, strides=0), "strides must be at least 1, got 0"),
        (lambda: ops.conv(X, K, strides=(1, -2)), "strides must be at least 1, got (1, -2)"),
        (
            lambda: ops.conv(X, K, strides=1.5),
            "strides must be an int, or one int for each of 2 spatial axes, got 1.5",
        ),
        (lambda: ops.conv(X, K, strides=(1, 1, 1)), "each of 2 spatial axes, got (1, 1, 1)"),
        (lambda: ops.conv(X, K, dilation=0), "dilation must be at least 1, got 0"),
        (lambda: ops.conv(X, K, padding=-1), "padding must be at least 0, got -1"),
        (lambda: ops.conv(X, K, padding="same"), "unknown padding 'same'"),
        (lambda: ops.conv(X, K, padding=((1, 2),)), "each of 2 spatial axes, got ((1, 2),)"),
        (
            lambda: ops.conv(X, K, padding=(1, (1, 2, 3))),
            "one int or pair (before, after) for each of",
        ),
        (lambda: ops.conv(X, K, padding_mode="mirror"), "unknown padding_mode 'mirror'"),
        (
            lambda: ops.conv(X, K, groups=3),
            "divide the input channels: got groups=3, input channels=4",
        ),
        (
            lambda: ops.conv(X, kernel(3, 3, 1, 6), groups=4),
            "divide the output channels: got groups=4, output channels=6",
        ),
        (lambda: ops.conv(X, K, groups=0), "groups must divide the input channels: got groups=0"),
        (lambda: ops.conv(X, kernel(3, 3, 3, 2)), "c_in / groups = 4"),
        (lambda: ops.conv(X, kernel(3, 4, 2)), "for x of shape (1, 4, 6, 4), got shape (3, 4, 2)"),
        (lambda: ops.conv_local(X, K), "kernel must have 6 axes (*positions, *window"),
        (lambda: ops.conv(X[0, 0], K), "spatial axes, got (6, 4)"),
        (lambda: ops.conv(X, K, kernel(3)), "bias must have shape (2,), got (3,)"),
        (
            lambda: ops.conv(X, K, padding=4, padding_mode="reflect"),
            "reflect padding must be at most 3 on axis 1 of size 4, got 4",
        ),
        (
            lambda: ops.conv(X, K, padding=(4, 7), padding_mode="circular"),
            "circular padding must be at most 6 on axis 2 of size 6, got 7",
        ),
        (lambda: ops.conv(X.astype(jnp.uint8), K), "x must have a floating-point type, got uint8"),
        (lambda: ops.conv(np.ones((1, 4, 4, 4), int), K), "x.astype(jnp.float32)"),
        (lambda: ops.conv(X, K.astype(int)), "kernel must have a floating-point type, got int32"),
        (lambda: ops.max_pool(X.astype(int), 2), "x must have a floating-point type, got int32"),
        (lambda: ops.blur_pool(X.astype(int)), "x must have a floating-point type, got int32"),
        (
            lambda: ops.depthwise_conv(X, K),
            "a depthwise kernel must have the shape (*window, 1, c_in * m), got",
        ),
        (lambda: ops.pointwise_conv(X, K), "shape (c_in, c_out), c_in the last axis of x"),
        (lambda: ops.dense(X, K), "for x of shape (1, 4, 6, 4), got (3, 3, 4, 2)"),
        (
            lambda: ops.dense(X, kernel(5, 2)),
            "kernel must have the shape (c_in, c_out), c_in the last axis",
        ),
        (lambda: ops.dense(X[0, 0, 0, 0], kernel(1, 2)), "for x of shape (), got (1, 2)"),
        (
            lambda: ops.dense(X.astype(int), kernel(4, 2)),
            "x must have a floating-point type, got int32",
        ),
        (lambda: ops.dense_spatial(X, K), "kernel must have 6 axes (*in_spatial, c_in,"),
        (lambda: ops.dense_spatial(X, kernel(4, 5, 4, 2, 2, 1)), "kernel must have 6 axes"),
        (
            lambda: ops.dense_spatial(X, kernel(4, 6, 4, 2, 1, 3), kernel(2, 3)),
            "bias must have shape (3,) or (2, 1, 3), got (2, 3)",
        ),
        (
            lambda: ops.conv_tiled(X, kernel(3, 1, 3, 3, 4, 2)),
            "period must be from 1 to the output size 2 on axis 1, got 3",
        ),
        (
            lambda: ops.conv_tiled(X, kernel(2, 1, 3, 3, 4, 2), kernel(2, 2)),
            "bias must have shape (2,) or (2, 1, 2), got (2, 2)",
        ),
        (
            lambda: ops.conv_local(X, kernel(2, 2, 3, 3, 4, 2)),
            "kernel must start with the output positions (2, 4), got shape (2, 2, 3, 3, 4, 2)",
        ),
        (
            lambda: ops.conv_transpose(X, K),
            "c_out = 4 as its last axis for y of shape (1, 4, 6, 4), got shape (3, 3, 4, 2)",
        ),
        (
            lambda: ops.conv_transpose(X, kernel(3, 3, 2, 4), strides=2, output_shape=(9, 15)),
            "conv gives (4, 6), the size of y, got (9, 15), from which it gives (4, 7)",
        ),
        (
            lambda: ops.input_size(1, 1, padding=1),
            "padding must be such that some input has output size (1,), got 1",
        ),
        (lambda: ops.conv_matrix(K, (4, 6, 3)), "c_in / groups = 3"),
        (lambda: ops.adaptive_avg_pool(X, 0), "output_size must be at least 1, got 0"),
        (lambda: ops.adaptive_max_pool(X, (2, 0)), "output_size must be at least 1, got (2, 0)"),
        (lambda: ops.avg_pool(X, 2, padding=2), "padding must leave input in every window (2, 2)"),
        (
            lambda: ops.max_pool_channels(X, 3),
            "group must divide the channels: got group=3, channels=4",
        ),
        (
            lambda: ops.blur_pool(X[:, :1]),
            "reflect padding must be at most 0 on axis 1 of size 1, got 1",
        ),
        (lambda: filters.binomial_blur(0), "size must be at least 1, got 0"),
        (lambda: filters.box_blur(0), "size must be at least 1, got 0"),
        (lambda: filters.binomial_blur(3, rank=4), "rank must be 1, 2 or 3, got 4"),
    ],
)
def test_invalid_input_raises_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "call",
    [
        lambda: ops.conv(X, K, stride=1),
        lambda: ops.convolve(X, K, stride=1),
        lambda: ops.depthwise_conv(X, kernel(3, 3, 1, 4), stride=1),
        lambda: ops.separable_conv(X, kernel(3, 3, 1, 4), kernel(4, 4), stride=1),
        lambda: ops.conv_tiled(X, K[None, None], stride=1),
        lambda: ops.conv_local(X, K[None, None], stride=1),
        lambda: ops.conv_matrix(K, (4, 6, 4), stride=1),
    ],
)
def test_an_unknown_keyword_is_an_error(call: Callable[[], object]) -> None:
    with pytest.raises(TypeError, match="unexpected keyword argument 'stride'"):
        call()
