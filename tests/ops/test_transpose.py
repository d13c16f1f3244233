"""Transposed convolution: the adjoint of `conv`, and its gradient."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import given
from numpy.testing import assert_array_equal

from cnn import ops
from tests.ops import loops
from tests.ops.strategies import MODES, Case, cases, numbers


@given(case=cases())
def test_it_is_the_adjoint_of_conv(case: Case) -> None:
    """⟨conv(x), y⟩ = ⟨x, conv_transpose(y)⟩, exactly: every term is a small whole number."""
    x, kernel = case.x(), case.kernel()
    y = numbers(case.rng, (len(x), *case.windows.out, case.c_out))
    size = case.windows.size
    transpose = jax.jit(
        lambda *arrays: ops.conv_transpose(*arrays, **case.arguments, output_shape=size)
    )
    forward = loops.conv(x, lambda p: kernel, case.windows, case.mode, case.groups)
    assert np.vdot(forward, y) == np.vdot(x, transpose(y, kernel))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("padding", ["VALID", ((1, 2), (0, 1))])
def test_it_is_the_input_gradient_of_conv(padding: ops.Padding, mode: ops.PaddingMode) -> None:
    """The gradient of a convolution with respect to its input is a convolution."""
    rng = np.random.default_rng(0)
    x, kernel = numbers(rng, (2, 6, 7, 2)), numbers(rng, (3, 2, 1, 4))
    options = {"strides": (2, 1), "dilation": (1, 2), "groups": 2}
    options |= {"padding": padding, "padding_mode": mode}
    y, backward = jax.vjp(lambda x: ops.conv(x, kernel, **options), x)
    slope = numbers(rng, y.shape)
    assert_array_equal(
        ops.conv_transpose(slope, kernel, **options, output_shape=(6, 7)), backward(slope)[0]
    )


def test_by_hand() -> None:
    """Each input adds a copy of the kernel to the output; copies are one stride apart."""
    y = np.arange(4, dtype=np.float32).reshape(1, 2, 2, 1)
    kernel = y.reshape(2, 2, 1, 1)
    assert_array_equal(
        ops.conv_transpose(y, kernel)[0, :, :, 0], [[0, 0, 1], [0, 4, 6], [4, 12, 9]]
    )
    assert_array_equal(
        ops.conv_transpose(y, kernel, strides=2)[0, :, :, 0],
        [[0, 0, 0, 1], [0, 0, 2, 3], [0, 2, 0, 3], [4, 6, 6, 9]],
    )


@pytest.mark.parametrize("padding", ["VALID", "SAME", "SAME_LOWER", "FULL", 1])
def test_the_default_output_is_the_smallest_that_conv_takes_to_this_size(
    padding: ops.Padding,
) -> None:
    options = {"strides": (2, 3), "padding": padding}
    y, kernel = np.ones((1, 4, 5, 2), np.float32), np.ones((3, 2, 1, 2), np.float32)
    x = ops.conv_transpose(y, kernel, **options)
    assert ops.conv(x, kernel, **options).shape == y.shape
    for axis in (1, 2):
        smaller = np.delete(x, 0, axis)
        assert ops.conv(smaller, kernel, **options).shape != y.shape


def test_the_kernel_gradient_is_the_convolution_of_input_and_output_gradient() -> None:
    """It exchanges channels and batch, and strides become dilation."""
    rng = np.random.default_rng(0)
    x, kernel = numbers(rng, (3, 8, 9, 2)), numbers(rng, (2, 3, 2, 4))
    options = {"strides": (2, 3), "padding": (1, 0)}
    y, backward = jax.vjp(lambda kernel: ops.conv(x, kernel, **options), kernel)
    slope = numbers(rng, y.shape)
    gradient = ops.conv(
        np.moveaxis(x, (0, -1), (-1, 0)),  # (c_in, *spatial, batch)
        np.moveaxis(slope, 0, 2),  # (*out, batch, c_out)
        padding=(1, 0),
        dilation=(2, 3),
    )
    expected = np.moveaxis(gradient, 0, 2)[:2, :3]  # rows that the stride left over go
    assert_array_equal(backward(slope)[0], expected)


def test_the_bias_is_added_after_per_input_channel() -> None:
    rng = np.random.default_rng(0)
    y, kernel, bias = (numbers(rng, s) for s in [(1, 3, 4), (2, 2, 4), (4,)])
    assert_array_equal(
        ops.conv_transpose(y, kernel, bias, groups=2),
        np.asarray(ops.conv_transpose(y, kernel, groups=2)) + bias,
    )


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize(
    ("strides", "padding", "dilation", "groups", "rest"),
    [(1, 0, 1, 1, 0), (2, 1, 1, 1, 1), (3, 1, 2, 2, 2), (2, 0, 1, 2, 0)],
)
def test_it_agrees_with_pytorch(
    rank: int, strides: int, padding: int, dilation: int, groups: int, rest: int
) -> None:
    """PyTorch's `output_padding` is `output_shape` minus the smallest output shape."""
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    rng = np.random.default_rng(0)
    y, kernel = (numbers(rng, s) for s in [(2, *(4, 3, 3)[:rank], 4), (*(3,) * rank, 2, 4)])
    options = {"strides": strides, "padding": padding, "dilation": dilation}
    size = ops.input_size(y.shape[1:-1], (3,) * rank, **options)
    expected = getattr(torch.nn.functional, f"conv_transpose{rank}d")(
        torch.tensor(np.moveaxis(y, -1, 1)),
        torch.tensor(np.moveaxis(kernel, (-1, -2), (0, 1))),
        stride=strides,
        padding=padding,
        output_padding=rest,
        groups=groups,
        dilation=dilation,
    )
    x = ops.conv_transpose(
        y, kernel, **options, groups=groups, output_shape=tuple(n + rest for n in size)
    )
    assert_array_equal(x, np.moveaxis(expected.numpy(), 1, -1))
