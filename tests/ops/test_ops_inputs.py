"""Bad input: one `InputError`, one line that names the argument, the value and the remedy."""

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
        (lambda: ops.conv(X, kernel(5, 3, 4, 2)), "window 5 exceeds padded size 4 on axis 1"),
        (lambda: ops.conv(X, K, dilation=(1, 3)), "window 3 (dilated to 7) exceeds padded size 6"),
        (lambda: ops.max_pool(X, 7, padding=1), "window 7 exceeds padded size 6 on axis 1"),
        (lambda: ops.output_size(4, 5), "window 5 exceeds padded size 4 on axis 1"),
        (lambda: ops.conv(X, K, strides=0), "strides 0 is too small"),
        (lambda: ops.conv(X, K, strides=(1, -2)), "strides (1, -2) is too small"),
        (lambda: ops.conv(X, K, strides=1.5), "strides 1.5 is not an int"),
        (lambda: ops.conv(X, K, strides=(1, 1, 1)), "has 3 entries for 2 spatial axes"),
        (lambda: ops.conv(X, K, dilation=0), "dilation 0 is too small"),
        (lambda: ops.conv(X, K, padding=-1), "padding -1 is too small"),
        (lambda: ops.conv(X, K, padding="same"), "unknown padding 'same'"),
        (lambda: ops.conv(X, K, padding=((1, 2),)), "has 1 entries for 2 spatial axes"),
        (lambda: ops.conv(X, K, padding=(1, (1, 2, 3))), "is not one int or pair"),
        (lambda: ops.conv(X, K, padding_mode="mirror"), "unknown padding_mode 'mirror'"),
        (lambda: ops.conv(X, K, groups=3), "groups 3 does not divide input channels 4"),
        (lambda: ops.conv(X, kernel(3, 3, 1, 6), groups=4), "not divide output channels 6"),
        (lambda: ops.conv(X, K, groups=0), "groups 0 does not divide"),
        (lambda: ops.conv(X, kernel(3, 3, 3, 2)), "c_in / groups = 4"),
        (lambda: ops.conv(X, kernel(3, 4, 2)), "x (1, 4, 6, 4) needs 4 axes"),
        (lambda: ops.conv_local(X, K), "needs 6 axes: (*positions, *window"),
        (lambda: ops.conv(X[0, 0], K), "x has shape (6, 4)"),
        (lambda: ops.conv(X, K, kernel(3)), "bias has shape (3,) but the output needs (2,)"),
        (
            lambda: ops.conv(X, K, padding=4, padding_mode="reflect"),
            "reflect padding 4 exceeds 3 on axis 1 of size 4",
        ),
        (
            lambda: ops.conv(X, K, padding=(4, 7), padding_mode="circular"),
            "circular padding 7 exceeds 6 on axis 2 of size 6",
        ),
        (lambda: ops.conv(X.astype(jnp.uint8), K), "x has type uint8 but floats are needed"),
        (lambda: ops.conv(np.ones((1, 4, 4, 4), int), K), "x.astype(jnp.float32)"),
        (lambda: ops.conv(X, K.astype(int)), "kernel has type int32 but floats are needed"),
        (lambda: ops.max_pool(X.astype(int), 2), "x has type int32 but floats are needed"),
        (lambda: ops.blur_pool(X.astype(int)), "x has type int32 but floats are needed"),
        (lambda: ops.depthwise_conv(X, K), "a depthwise one is (*window, 1, c_in * m)"),
        (lambda: ops.pointwise_conv(X, K), "needs (c_in, c_out), c_in the last axis"),
        (lambda: ops.dense(X, K), "kernel has shape (3, 3, 4, 2) but x (1, 4, 6, 4) needs (c_in,"),
        (lambda: ops.dense(X, kernel(5, 2)), "needs (c_in, c_out), c_in the last axis of x"),
        (lambda: ops.dense(X[0, 0, 0, 0], kernel(1, 2)), "x () needs (c_in, c_out)"),
        (lambda: ops.dense(X.astype(int), kernel(4, 2)), "x has type int32 but floats are needed"),
        (lambda: ops.dense_spatial(X, K), "needs 6 axes, (*in_spatial, c_in,"),
        (lambda: ops.dense_spatial(X, kernel(4, 5, 4, 2, 2, 1)), "needs 6 axes"),
        (
            lambda: ops.dense_spatial(X, kernel(4, 6, 4, 2, 1, 3), kernel(2, 3)),
            "bias has shape (2, 3) but the output needs (3,) or (2, 1, 3)",
        ),
        (
            lambda: ops.conv_tiled(X, kernel(3, 1, 3, 3, 4, 2)),
            "period 3 is not between 1 and output size 2 on axis 1",
        ),
        (
            lambda: ops.conv_tiled(X, kernel(2, 1, 3, 3, 4, 2), kernel(2, 2)),
            "needs (2,) or (2, 1, 2)",
        ),
        (
            lambda: ops.conv_local(X, kernel(2, 2, 3, 3, 4, 2)),
            "has positions (2, 2) but the output has (2, 4)",
        ),
        (
            lambda: ops.conv_transpose(X, K),
            "kernel has shape (3, 3, 4, 2) but y (1, 4, 6, 4) needs c_out = 4",
        ),
        (
            lambda: ops.conv_transpose(X, kernel(3, 3, 2, 4), strides=2, output_shape=(9, 15)),
            "output_shape (9, 15) does not fit: conv takes it to (4, 7) but y has (4, 6)",
        ),
        (lambda: ops.input_size(1, 1, padding=1), "no input has output size (1,)"),
        (lambda: ops.conv_matrix(K, (4, 6, 3)), "c_in / groups = 3"),
        (lambda: ops.adaptive_avg_pool(X, 0), "output_size 0 is too small"),
        (lambda: ops.adaptive_max_pool(X, (2, 0)), "output_size (2, 0) is too small"),
        (lambda: ops.avg_pool(X, 2, padding=2), "leaves a window (2, 2) with no cell"),
        (lambda: ops.max_pool_channels(X, 3), "group 3 does not divide channels 4"),
        (lambda: ops.blur_pool(X[:, :1]), "reflect padding 1 exceeds 0 on axis 1 of size 1"),
        (lambda: filters.blur(0), "size 0 is too small"),
        (lambda: filters.blur(3, rank=4), "rank 4 is not a number of spatial axes"),
    ],
)
def test_it_says_what_is_wrong_in_one_line(call: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError) as caught:
        call()
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
