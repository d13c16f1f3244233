"""Pooling: worked examples of the lectures, loops over windows, PyTorch."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import assume, given
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.ops.implementations import use
from tests.ops import loops
from tests.ops.strategies import Case, cases, numbers

IMAGE = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)


def test_2x2_pooling_of_a_3x3_image_that_overlaps() -> None:
    assert_array_equal(ops.max_pool(IMAGE, 2, strides=1)[0, :, :, 0], [[4, 5], [7, 8]])
    assert_array_equal(ops.avg_pool(IMAGE, 2, strides=1)[0, :, :, 0], [[2, 3], [5, 6]])


def test_the_stride_defaults_to_the_window() -> None:
    x = np.arange(16, dtype=np.float32).reshape(1, 4, 4, 1)
    assert_array_equal(ops.max_pool(x, 3).ravel(), [10])
    assert_array_equal(ops.max_pool(x, 3, padding=1, strides=2)[0, :, :, 0], [[5, 7], [13, 15]])
    assert_array_equal(
        ops.max_pool(x, (2, 3), strides=(2, 3), padding=(0, 1))[0, :, :, 0], [[5, 7], [13, 15]]
    )


def test_avg_pool_counts_padding_only_on_request() -> None:
    x = np.ones((1, 2, 1), np.float32)
    assert_array_equal(ops.avg_pool(x, 2, strides=1, padding=1).ravel(), [1, 1, 1])
    counted = ops.avg_pool(x, 2, strides=1, padding=1, count_padding=True)
    assert_array_equal(counted.ravel(), [0.5, 1, 0.5])


def test_padding_never_wins_over_negative_values() -> None:
    assert_array_equal(ops.max_pool(-IMAGE - 1, 3, padding=1).ravel(), [-1])


@given(case=cases(modes=["zeros"]))
def test_max_and_mean_are_taken_over_the_cells_of_each_window(case: Case) -> None:
    windows = case.windows
    assume(windows.all_see_input)
    x = case.x() * 10

    def both(x):  # type: ignore[no-untyped-def]
        return (
            ops.max_pool(x, windows.window, **case.options),
            ops.avg_pool(x, windows.window, **case.options),
        )

    largest, mean = jax.jit(both)(x)
    assert_array_equal(largest, loops.pool(x, windows, np.max))
    assert_allclose(mean, loops.pool(x, windows, np.mean), rtol=1e-6)


def test_mean_pooling_is_a_convolution() -> None:
    """With the kernel that is 1 / window everywhere, each channel by itself."""
    x = numbers(np.random.default_rng(0), (2, 7, 8, 3))
    kernel = np.full((2, 4, 1, 3), 1 / 8, np.float32)
    options = {"strides": (1, 2), "padding": "SAME"}
    assert_array_equal(
        ops.avg_pool(x, (2, 4), **options, count_padding=True),
        ops.depthwise_conv(x, kernel, **options),
    )


def test_max_pooling_is_not_additive_so_it_is_no_convolution() -> None:
    """A convolution of a sum is the sum of the convolutions; the mean of a sum is, too."""
    a, b = (np.array(v, np.float32)[None, :, None] for v in ([1, 0, 3, 5], [0, 1, 2, 4]))
    assert_array_equal(ops.max_pool(a + b, 2).ravel(), [1, 9])
    assert_array_equal((ops.max_pool(a, 2) + ops.max_pool(b, 2)).ravel(), [2, 9])
    assert_array_equal(ops.avg_pool(a + b, 2).ravel(), [1, 7])
    assert_array_equal((ops.avg_pool(a, 2) + ops.avg_pool(b, 2)).ravel(), [1, 7])


def test_means_of_bfloat16_are_summed_in_float32() -> None:
    """A bfloat16 sum of ones stops at 256."""
    x = jnp.ones((1, 1000, 1), jnp.bfloat16)
    for mean in (ops.avg_pool(x, 1000), ops.adaptive_avg_pool(x, 1), ops.global_avg_pool(x)):
        assert mean.dtype == jnp.bfloat16
        assert_array_equal(mean.ravel(), [1])


def test_the_gradient_of_max_pool_where_negative_padding_takes_cells_away() -> None:
    """Without its last cell, windows of 1 with stride 2 see cells 0, 2 and 4 of 6."""
    x = jnp.zeros((1, 6, 1))
    slope = jax.grad(lambda x: ops.max_pool(x, 1, strides=2, padding=((0, -1),)).sum())(x)
    assert_array_equal(slope.ravel(), [1, 0, 1, 0, 1, 0])


@pytest.mark.parametrize("dilation", [1, 2])
def test_the_gradient_of_max_pool_goes_to_the_first_of_equal_values(dilation: int) -> None:
    x = jnp.zeros((1, 6, 1)).at[0, 3].set(-1.0)
    slope = jax.grad(lambda x: ops.max_pool(x, 2, strides=3, dilation=dilation).sum())(x)
    assert_array_equal(slope.ravel(), [1, 0, 0, 0, 1, 0] if dilation == 1 else [1, 0, 0, 0, 0, 1])


@pytest.mark.parametrize("implementation", ["fastest", "reference"])
@pytest.mark.parametrize("window", [2, 20, 300])
@pytest.mark.parametrize("dilation", [1, 2])
def test_padding_takes_no_gradient_from_values(
    dilation: int, window: int, implementation: Literal["fastest", "reference"]
) -> None:
    """Two of four values are −inf, as padding is; windows of these alone choose the first one."""
    x = jnp.array([-jnp.inf, -jnp.inf, 1.0, 1.0])[None, :, None]
    ends = (window - 1) * dilation - 1
    with use(implementation):
        pool = partial(ops.max_pool, window=window, strides=1, dilation=dilation)
        y, pullback = jax.vjp(partial(pool, padding=((ends, ends),)), x)
        (slope,) = pullback(jnp.ones_like(y))
    seen = [[p - ends + dilation * a for a in range(window)] for p in range(y.shape[1])]
    expected = np.zeros(4)
    for p, cells in enumerate(seen):
        inside = [i for i in cells if 0 <= i < 4]
        finite = [i for i in inside if i >= 2]
        assert y[0, p, 0] == (1 if finite else -jnp.inf)
        expected[(finite or inside)[0]] += 1
    assert_array_equal(slope.ravel(), expected)


@pytest.mark.parametrize("padded", [False, True])
def test_a_map_of_minus_infinity_gives_its_gradient_to_the_first_cell(padded: bool) -> None:
    x = jnp.full((1, 5, 1), -jnp.inf)
    pools = {
        "window": lambda x: ops.max_pool(x, 6, padding=((1, 0),)) if padded else ops.max_pool(x, 5),
        "global": ops.global_max_pool,
        "bins": lambda x: ops.adaptive_max_pool(x, 1),
        "channels": lambda x: ops.max_pool_channels(x.swapaxes(1, 2), 5),
    }
    for pool in pools.values():
        slope = jax.grad(lambda x, pool=pool: jnp.where(pool(x) < 0, pool(x), 0).sum())(x)
        assert_array_equal(slope.ravel(), [1, 0, 0, 0, 0])


@pytest.mark.parametrize("dilation", [1, 2])
def test_max_pool_propagates_nan(dilation: int) -> None:
    for i in range(3):
        x = jnp.ones((1, 3, 1)).at[0, i].set(jnp.nan)
        window = 3 if dilation == 1 else 2
        y = ops.max_pool(x, window, dilation=dilation)
        assert bool(jnp.isnan(y).all()) == (dilation == 1 or i != 1)


def test_global_pooling() -> None:
    x = numbers(np.random.default_rng(0), (2, 3, 4, 5))
    assert_allclose(ops.global_avg_pool(x), x.mean((1, 2)), rtol=1e-6)
    assert_array_equal(ops.global_max_pool(x), x.max((1, 2)))


def test_pooling_across_channels_takes_adjacent_ones() -> None:
    x = np.array([[[3, 1, 2, 5, 4, 6]]], np.float32)
    assert_array_equal(ops.max_pool_channels(x, 2), [[[3, 5, 6]]])
    assert_array_equal(ops.max_pool_channels(x, 3), [[[3, 6]]])


def test_blur_pool_by_hand() -> None:
    """[1 2 1] / 4 about the cells 0, 2, 4 of 0 4 0 8 0, mirrored to 4 | 0 4 0 8 0 | 8."""
    x = np.array([0, 4, 0, 8, 0], np.float32)[None, :, None]
    assert_array_equal(ops.blur_pool(x).ravel(), [2, 3, 4])
    replicated = ops.blur_pool(x, padding_mode="replicate").ravel()
    assert_array_equal(replicated, [1, 3, 2])
    x = np.array([0, 4, 0, 8, 0, 6], np.float32)[None, :, None]
    assert_array_equal(ops.blur_pool(x, window=2).ravel(), [2, 4, 3])  # half a cell after


@pytest.mark.parametrize("window", [1, 2, 3, 4, 5])
def test_blur_pool_keeps_flat_images_flat_and_each_channel_to_itself(window: int) -> None:
    x = np.ones((1, 7, 8, 3), np.float32) * np.array([1, 2, 3], np.float32)
    y = ops.blur_pool(x, window, (2, 3))
    assert y.shape == (1, 4, 3, 3)
    assert_array_equal(y, x[:, ::2, ::3])


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("window", "strides", "padding", "dilation"), [(2, 2, 0, 1), (3, 2, 1, 1), (3, 1, 1, 2)]
)
def test_pooling_agrees_with_pytorch(
    rank: int, window: int, strides: int, padding: int, dilation: int
) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    x = numbers(np.random.default_rng(0), (2, *(7, 6, 9)[:rank], 3))
    channels_first = torch.tensor(np.moveaxis(x, -1, 1))

    def theirs(name: str, *arguments: int, **options: bool) -> np.ndarray:
        y = getattr(torch.nn.functional, f"{name}{rank}d")(channels_first, *arguments, **options)
        return np.moveaxis(y.numpy(), 1, -1)

    options = {"strides": strides, "padding": padding}
    assert_array_equal(
        ops.max_pool(x, window, **options, dilation=dilation),
        theirs("max_pool", window, strides, padding, dilation),
    )
    for counted in (False, True):
        assert_allclose(
            ops.avg_pool(x, window, **options, count_padding=counted),
            theirs("avg_pool", window, strides, padding, count_include_pad=counted),
            rtol=1e-6,
        )
    for out in (1, 4, 11):
        assert_array_equal(ops.adaptive_max_pool(x, out), theirs("adaptive_max_pool", out))
        assert_allclose(
            ops.adaptive_avg_pool(x, out), theirs("adaptive_avg_pool", out), rtol=1e-5, atol=1e-6
        )


@pytest.mark.parametrize(
    "pool",
    [
        lambda x: ops.max_pool(x, (3, 3)),
        lambda x: ops.max_pool(x, (3, 3), padding=((0, 0), (-1, 1))),
        lambda x: ops.adaptive_max_pool(x, 1),
        lambda x: ops.adaptive_max_pool(x, 2)[:, :1, :1],
        ops.global_max_pool,
    ],
)
@pytest.mark.parametrize("implementation", ["reference", "fastest"])
def test_the_gradient_of_equal_values_goes_to_the_first(
    pool: Callable[[jax.Array], jax.Array], implementation: Literal["reference", "fastest"]
) -> None:
    """The largest value is at (0, 2), (1, 0) and (1, 1): row by row the first is (0, 2)."""
    x = jnp.zeros((1, 3, 3, 1)).at[0, (0, 1, 1), (2, 0, 1), 0].set(1.0)
    with use(implementation):
        g = jax.grad(lambda x: pool(x).sum())(x)[0, ..., 0]
    seen = pool(jnp.arange(9.0).reshape(1, 3, 3, 1)).max() == 8  # not only the first four cells
    first = (0, 2) if seen else (1, 0)
    assert_array_equal(g, jnp.zeros((3, 3)).at[first].set(1.0))


def test_the_gradient_of_equal_channels_goes_to_the_first() -> None:
    g = jax.grad(lambda x: ops.max_pool_channels(x, 3).sum())(jnp.ones((1, 2, 6)))
    assert_array_equal(g, [[[1, 0, 0, 1, 0, 0]] * 2])
