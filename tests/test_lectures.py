"""Statements of a course on convolution that no other test checks, with numbers worked out by hand.

`docs/lecture_map.md` lists them.
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import linen as nn

from cnn import ops
from cnn.ablations import share
from cnn.geometry import describe
from cnn.layers import (
    AvgPool,
    BlurPool,
    Chain,
    Conv,
    ConvLocal,
    DenseSpatial,
    GlobalAvgPool,
    GlobalMaxPool,
    Maxout,
    MaxPool,
)


def parameters(model: nn.Module, shape: tuple[int, ...]) -> int:
    variables = model.init(jax.random.key(0), jnp.zeros((1, *shape)))
    return sum(leaf.size for leaf in jax.tree.leaves(variables))


def test_sharing_leaves_one_bias_term_per_channel() -> None:
    x = jnp.zeros((1, 9, 1))
    local, shared = ConvLocal(4, 3), share(ConvLocal(4, 3))
    assert local.init(jax.random.key(0), x)["params"]["bias"].shape == (7, 4)  # b_i
    assert shared.init(jax.random.key(0), x)["params"]["bias"].shape == (4,)  # u
    # With the same value everywhere the two are equal.
    u = jnp.arange(4.0)
    kernel = jnp.ones((3, 1, 4))
    np.testing.assert_array_equal(
        ops.conv_local(x, jnp.broadcast_to(kernel, (7, 3, 1, 4)), jnp.broadcast_to(u, (7, 4))),
        ops.conv(x, kernel, u),
    )


@pytest.mark.parametrize(
    "layer",
    [MaxPool(2), AvgPool(2), BlurPool(2), GlobalAvgPool(), GlobalMaxPool(), Maxout(2)],
    ids=lambda layer: type(layer).__name__,
)
def test_pooling_has_no_parameters(layer: nn.Module) -> None:
    assert parameters(layer, (8, 8, 2)) == 0
    assert parameters(Conv(2, 2), (8, 8, 2)) == 2 * 2 * 2 * 2 + 2


def test_one_5x5_has_26_parameters_and_two_3x3_have_20() -> None:
    one, two = Chain((Conv(1, 5),)), Chain((Conv(1, 3), Conv(1, 3)))
    assert parameters(one, (12, 12, 1)) == 5 * 5 + 1
    assert parameters(two, (12, 12, 1)) == 2 * (3 * 3 + 1)
    assert describe(one, (12, 12, 1)).receptive_field == (5, 5)
    assert describe(two, (12, 12, 1)).receptive_field == (5, 5)


def test_a_dense_layer_costs_m_times_n_and_a_convolution_k_times_n() -> None:
    m, k = 100, 5
    n = m - k + 1
    assert describe(DenseSpatial(1, k, use_bias=False), (m, 1)).macs == m * n
    assert describe(Conv(1, k, use_bias=False), (m, 1)).macs == k * n
    # Without sharing the multiplications stay, and the weights are k · n instead of k.
    assert describe(ConvLocal(1, k, use_bias=False), (m, 1)).macs == k * n
    assert parameters(ConvLocal(1, k, use_bias=False), (m, 1)) == k * n
    assert parameters(Conv(1, k, use_bias=False), (m, 1)) == k


@pytest.mark.parametrize(("window", "dilation", "span"), [(3, 1, 3), (3, 2, 5), (5, 3, 13)])
def test_a_dilated_window_spans_d_times_k_minus_1_plus_1(
    window: int, dilation: int, span: int
) -> None:
    assert span == dilation * (window - 1) + 1
    assert ops.output_size(20, window, dilation=dilation) == 20 - span + 1
    assert describe(Conv(1, window, dilation=dilation), (20, 1)).receptive_field == (span,)


@pytest.mark.parametrize(("n", "window", "s"), [(24, 3, 2), (24, 5, 3), (24, 7, 4), (24, 2, 2)])
def test_padding_by_k_minus_1_gives_n_over_s(n: int, window: int, s: int) -> None:
    lo = (window - 1) // 2
    padding = [(lo, window - 1 - lo)]
    assert ops.output_size((n,), window, s, padding) == (n // s,)


def test_ten_5x5_layers_slice_off_30_percent_of_240x240() -> None:
    size = 240
    for _ in range(10):
        size = ops.output_size(size, 5)
    assert size == 200
    assert round(100 * (1 - size**2 / 240**2), 1) == 30.6


@pytest.mark.parametrize(("o", "s", "k"), [(1, 1, 1), (10, 2, 5), (14, 3, 4)])
def test_the_inverse_of_the_output_size(o: int, s: int, k: int) -> None:
    i = (o - 1) * s + k
    assert ops.input_size(o, k, s) == i
    assert ops.output_size(i, k, s) == o
    if i > 1:
        assert ops.output_size(i - 1, k, s) == o - 1  # one position less loses a window
