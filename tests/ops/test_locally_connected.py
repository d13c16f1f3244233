"""Tiled and locally connected layers: one equation with a period of 1, P, or the whole output."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.ops import locally_connected
from tests.ops import loops
from tests.ops.strategies import Case, cases, numbers


def test_a_local_layer_by_hand() -> None:
    """Three positions, three kernels: [1, 2] · [1, 0], [2, 3] · [0, 1], [3, 4] · [1, 1]."""
    x = np.array([1, 2, 3, 4], np.float32)[None, :, None]
    kernel = np.array([[1, 0], [0, 1], [1, 1]], np.float32)[:, :, None, None]
    assert_array_equal(ops.conv_local(x, kernel).ravel(), [1, 3, 7])
    bias = np.array([[10], [20], [30]], np.float32)
    assert_array_equal(ops.conv_local(x, kernel, bias).ravel(), [11, 23, 37])


def test_a_tiled_layer_by_hand() -> None:
    """Kernels 1 and −1 alternate on five positions, which the period does not divide."""
    x = np.array([1, 2, 3, 4, 5], np.float32)[None, :, None]
    kernel = np.array([1, -1], np.float32)[:, None, None, None]
    assert_array_equal(ops.conv_tiled(x, kernel).ravel(), [1, -2, 3, -4, 5])
    bias = np.array([[0], [10]], np.float32)
    assert_array_equal(ops.conv_tiled(x, kernel, bias).ravel(), [1, 8, 3, 6, 5])


@pytest.mark.parametrize("max_taps", [256, 0], ids=["products", "phases"])
@given(case=cases(), data=st.data())
def test_tiled_is_the_equation_for_every_period(
    max_taps: int, case: Case, data: st.DataObject
) -> None:
    """A period of 1 is `conv`, and one as large as the output is `conv_local`."""
    out = case.windows.out
    valid_periods = st.tuples(*(st.integers(1, n) for n in out))
    period = data.draw(st.just(out) | st.just((1,) * len(out)) | valid_periods)
    op = ops.conv_local if period == out else ops.conv_tiled
    x, kernel, bias = case.x(), case.kernel(*period), case.bias(*period)

    def phase(p: loops.Index) -> loops.Index:
        return tuple(i % P for i, P in zip(p, period, strict=True))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(locally_connected, "MAX_TAPS", max_taps)
        y = jax.jit(lambda *arrays: op(*arrays, **case.arguments))(x, kernel, bias)
    expected = loops.conv(x, lambda p: kernel[phase(p)], case.windows, case.mode, case.groups)
    for p in loops.indices(out):
        expected[:, *p] += bias[phase(p)]
    assert_array_equal(y, expected)


def test_period_1_is_conv_and_the_period_of_the_output_is_conv_local() -> None:
    rng = np.random.default_rng(0)
    x, one, all_ = (numbers(rng, s) for s in [(2, 5, 2), (1, 3, 2, 4), (3, 3, 2, 4)])
    assert_array_equal(ops.conv_tiled(x, one), ops.conv(x, one[0]))
    assert_array_equal(ops.conv_tiled(x, all_), ops.conv_local(x, all_))


@pytest.mark.parametrize("op", [ops.conv_tiled, ops.conv_local])
def test_a_bias_per_channel_is_the_same_everywhere(op: ops.conv_local) -> None:
    rng = np.random.default_rng(0)
    x, kernel, bias = (numbers(rng, s) for s in [(2, 4, 5, 1), (3, 3, 2, 3, 1, 2), (2,)])
    assert_array_equal(op(x, kernel, bias), np.asarray(op(x, kernel)) + bias)
