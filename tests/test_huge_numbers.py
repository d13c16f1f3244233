"""Numbers that no device has room for are refused at once, wherever a user gives one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn
from hypothesis import given
from hypothesis import strategies as st

from cnn import ablations, layers, ops
from cnn.errors import InputError

X = jax.ShapeDtypeStruct((1, 6, 6, 2), jnp.float32)
KERNEL = jax.ShapeDtypeStruct((3, 3, 2, 2), jnp.float32)
LOCAL = jax.ShapeDtypeStruct((6, 6, 3, 3, 2, 2), jnp.float32)
NET = layers.Chain(
    (layers.Conv(2, 3, padding="SAME"), layers.MaxPool(2), layers.Flatten(), layers.Dense(2))
)


class Foreign(nn.Module):
    """A network whose layers are not those of `cnn.layers`."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        x = nn.max_pool(nn.Conv(2, (3, 3))(x), (2, 2), (2, 2))
        return nn.Dense(2)(x.reshape(x.shape[0], -1))


def abstract(op: Callable[..., Any], *arrays: Any, **options: Any) -> None:
    jax.eval_shape(lambda *a: op(*a, **options), *arrays)


def pooled(op: Callable[..., Any], window: int, **options: Any) -> None:
    jax.eval_shape(lambda x: op(x, window, **options), X)


def init(model: nn.Module) -> None:
    jax.eval_shape(model.init, jax.random.key(0), X)


CALLS: dict[str, Callable[[int], object]] = {
    "conv strides": lambda n: abstract(ops.conv, X, KERNEL, strides=n),
    "conv dilation": lambda n: abstract(ops.conv, X, KERNEL, dilation=n, padding="SAME"),
    "conv padding": lambda n: abstract(ops.conv, X, KERNEL, padding=n),
    "conv padding modes": lambda n: abstract(
        ops.conv, X, KERNEL, padding=n, padding_mode="replicate"
    ),
    "conv shifted": lambda n: abstract(ops.conv, X, KERNEL, padding=((n, -n), 0)),
    "conv cropped": lambda n: abstract(ops.conv, X, KERNEL, padding=((-n, 2), 0)),
    "conv_transpose strides": lambda n: abstract(ops.conv_transpose, X, KERNEL, strides=n),
    "conv_transpose dilation": lambda n: abstract(ops.conv_transpose, X, KERNEL, dilation=n),
    "conv_transpose size": lambda n: abstract(ops.conv_transpose, X, KERNEL, output_shape=n),
    "conv_local dilation": lambda n: abstract(ops.conv_local, X, LOCAL, padding="SAME", dilation=n),
    "conv_tiled padding": lambda n: abstract(ops.conv_tiled, X, LOCAL, padding=n),
    "conv_matrix size": lambda n: ops.conv_matrix(jnp.ones((3, 3, 2, 2)), (n, 6, 2)),
    "conv_matrix padding": lambda n: ops.conv_matrix(jnp.ones((3, 2, 2)), (6, 2), padding=n),
    "patches": lambda n: pooled(ops.patches, n, padding="SAME"),
    "pad": lambda n: jax.eval_shape(lambda x: ops.pad(x, ((n, 0), (0, 0))), X),
    "max_pool": lambda n: pooled(ops.max_pool, n, padding="SAME"),
    "max_pool dilation": lambda n: pooled(ops.max_pool, 2, dilation=n, padding="SAME"),
    "max_pool padding": lambda n: pooled(ops.max_pool, 2, padding=n),
    "max_pool strides": lambda n: pooled(ops.max_pool, 2, strides=n),
    "avg_pool": lambda n: pooled(ops.avg_pool, n, strides=1, padding="FULL"),
    "adaptive_max_pool": lambda n: pooled(ops.adaptive_max_pool, n),
    "adaptive_avg_pool": lambda n: pooled(ops.adaptive_avg_pool, n),
    "max_pool_channels": lambda n: pooled(ops.max_pool_channels, n),
    "blur_pool": lambda n: pooled(ops.blur_pool, n),
    "blur_pool strides": lambda n: pooled(ops.blur_pool, 3, strides=n),
    "box_blur": ops.filters.box_blur,
    "binomial_blur": ops.filters.binomial_blur,
    "output_size": lambda n: ops.output_size(n, 3),
    "input_size": lambda n: ops.input_size(n, 3),
    "Conv": lambda n: init(layers.Conv(n, 3)),
    "Conv window": lambda n: init(layers.Conv(2, n, padding="SAME")),
    "ConvTiled period": lambda n: init(layers.ConvTiled(2, 3, period=n)),
    "DenseSpatial": lambda n: init(layers.DenseSpatial(n, 3)),
    "SeparableConv": lambda n: init(layers.SeparableConv(2, 3, multiplier=n * 2**20)),
    "Dense": lambda n: init(layers.Dense(n)),
    "rewindow": lambda n: ablations.rewindow(NET, n),
    "dilate": lambda n: ablations.dilate(NET, n),
    "pool_window": lambda n: ablations.pool_window(NET, n),
    "repad": lambda n: init(ablations.repad(NET, padding=n)),
    "tile": lambda n: init(ablations.tile(NET, n)),
    "bottleneck": lambda n: init(ablations.bottleneck(NET, n)),
    "factorize": lambda n: ablations.factorize(layers.Chain((layers.Conv(2, (n | 1, 1)),))),
    "rewindow of another's": lambda n: init(ablations.rewindow(Foreign(), n)),
}


@pytest.mark.parametrize("number", [2**31, 2**63, 10**30])
@pytest.mark.parametrize("name", CALLS)
def test_a_huge_number_is_one_line(name: str, number: int) -> None:
    with pytest.raises(InputError) as error:
        CALLS[name](number)
    assert "\n" not in str(error.value)


NUMBERS = st.integers(-2, 9) | st.sampled_from([2**20, 2**31 - 1, 2**31, 2**62, 10**30, -(10**30)])
PADDING = (
    st.sampled_from(["VALID", "SAME", "SAME_LOWER", "FULL"])
    | NUMBERS
    | st.lists(NUMBERS | st.tuples(NUMBERS, NUMBERS), min_size=1, max_size=2)
    | st.tuples(st.just("SAME"), NUMBERS, NUMBERS)
)


@given(NUMBERS, NUMBERS, NUMBERS, NUMBERS, PADDING)
def test_windows_fit_or_are_refused(
    size: int, window: int, strides: int, dilation: int, padding: Any
) -> None:
    try:
        spec = ops.window_spec((size, 5), window, strides, padding, dilation)
    except InputError as error:
        assert "\n" not in str(error)
    else:
        assert all(0 < n < 2**31 for n in spec.on_padded.size + spec.out)
