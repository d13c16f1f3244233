"""Convolution: worked examples of the lectures, the equation as loops, SciPy, PyTorch."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
from hypothesis import given
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.ops.implementations import use
from tests.ops import loops
from tests.ops.strategies import Case, cases, numbers

IMAGE = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
KERNEL = np.arange(4, dtype=np.float32).reshape(2, 2, 1, 1)
SIGNAL = np.array([2, 2, 2, 6, 6, 6, 6], np.float32)[None, :, None]
STEP = np.array([-1, 1], np.float32)[:, None, None]


def test_3x3_image_with_2x2_kernel() -> None:
    assert_array_equal(ops.conv(IMAGE, KERNEL)[0, :, :, 0], [[19, 25], [37, 43]])


def test_the_same_padded() -> None:
    assert_array_equal(
        ops.conv(IMAGE, KERNEL, padding=1)[0, :, :, 0],
        [[0, 3, 8, 4], [9, 19, 25, 10], [21, 37, 43, 16], [6, 7, 8, 0]],
    )


def test_the_same_padded_with_strides_3_and_2() -> None:
    y = ops.conv(IMAGE, KERNEL, padding=1, strides=(3, 2))
    assert_array_equal(y[0, :, :, 0], [[0, 8], [6, 8]])


def test_two_input_channels() -> None:
    x = np.concatenate([IMAGE, IMAGE + 1], axis=-1)
    kernel = np.concatenate([KERNEL, KERNEL + 1], axis=-2)
    assert_array_equal(ops.conv(x, kernel)[0, :, :, 0], [[56, 72], [104, 120]])


def test_1x1_with_three_inputs_and_two_outputs_mixes_the_channels_of_each_pixel() -> None:
    x = np.array([[[[1, 2, 3], [4, 5, 6]]]], np.float32)
    kernel = np.array([[1, 0], [10, 1], [100, -1]], np.float32)
    expected = [[[321, -1], [654, -1]]]
    assert_array_equal(ops.conv(x, kernel[None, None])[0], expected)
    assert_array_equal(ops.pointwise_conv(x, kernel)[0], expected)


def test_twelve_6x6_filters_with_stride_2_on_32x32x3() -> None:
    x, kernel = jnp.zeros((1, 32, 32, 3)), jnp.zeros((6, 6, 3, 12))
    assert ops.conv(x, kernel, strides=2).shape == (1, 14, 14, 12)


def test_ten_5x5_layers_shrink_240x240_to_200x200() -> None:
    def ten_layers(x: jax.Array) -> jax.Array:
        for _ in range(10):
            x = ops.conv(x, jnp.zeros((5, 5, 1, 1)))
        return x

    y = jax.eval_shape(ten_layers, jax.ShapeDtypeStruct((1, 240, 240, 1), jnp.float32))
    assert y.shape == (1, 200, 200, 1)


def test_strict_convolution_of_a_step() -> None:
    assert_array_equal(ops.convolve(SIGNAL, STEP).ravel(), [0, 0, -4, 0, 0, 0])


def test_strict_convolution_of_a_step_as_scipys_nearest_mode() -> None:
    y = ops.convolve(SIGNAL, STEP, padding="SAME", padding_mode="replicate").ravel()
    assert_array_equal(y, [0, 0, -4, 0, 0, 0, 0])
    assert_array_equal(y, scipy.ndimage.convolve(SIGNAL.ravel(), STEP.ravel(), mode="nearest"))


def test_cross_correlation_of_a_step() -> None:
    assert_array_equal(ops.conv(SIGNAL, STEP).ravel(), [0, 0, 4, 0, 0, 0])


def test_two_3x3_see_what_a_5x5_sees_with_fewer_weights() -> None:
    """A 5×5 kernel and bias are 25 + 1 weights, two 3×3 ones 2 · (9 + 1).

    Two 3×3 in a row are one 5×5 indeed: the convolution of the two.
    """
    rng = np.random.default_rng(0)
    x, first, second = (numbers(rng, shape) for shape in [(1, 7, 7, 1), (3, 3, 1, 1), (3, 3, 1, 1)])
    both = ops.convolve(first[None, :, :, 0], second, padding="FULL")[0, :, :, :, None]
    assert both.size + 1 == 25 + 1
    assert first.size + second.size + 2 == 2 * (9 + 1)
    assert_array_equal(ops.conv(ops.conv(x, first), second), ops.conv(x, both))


def test_separable_from_16_to_32_channels_has_656_weights_for_4608() -> None:
    rng = np.random.default_rng(0)
    x = numbers(rng, (1, 5, 6, 16))
    depthwise, pointwise = numbers(rng, (3, 3, 1, 16)), numbers(rng, (16, 32))
    kernel = np.moveaxis(depthwise, -1, -2) * pointwise
    assert kernel.size == 4608
    assert depthwise.size + pointwise.size == 656
    options = {"strides": (1, 2), "padding": 1, "padding_mode": "circular"}
    assert_array_equal(
        ops.separable_conv(x, depthwise, pointwise, **options), ops.conv(x, kernel, **options)
    )


def test_gradient_descent_learns_the_edge_detector_back() -> None:
    image = np.ones((1, 6, 8, 1), np.float32)
    image[:, :, 2:6] = 0
    edges = ops.conv(image, np.array([1, -1], np.float32).reshape(1, 2, 1, 1))
    slope = jax.jit(jax.grad(lambda kernel: jnp.sum((ops.conv(image, kernel) - edges) ** 2)))
    kernel = jnp.array([0.3, 0.2]).reshape(1, 2, 1, 1)
    for _ in range(60):
        kernel = kernel - 0.02 * slope(kernel)
    assert_allclose(kernel.ravel(), [1, -1], atol=1e-3)


@given(case=cases())
def test_conv_is_the_equation(case: Case) -> None:
    x, kernel, bias = case.x(), case.kernel(), case.bias()
    y = jax.jit(lambda *arrays: ops.conv(*arrays, **case.arguments))(x, kernel, bias)
    expected = loops.conv(x, lambda p: kernel, case.windows, case.mode, case.groups) + bias
    assert_array_equal(y, expected, strict=False)
    assert y.dtype == jnp.float32


def test_convolve_is_conv_with_the_kernel_flipped_in_space_only() -> None:
    rng = np.random.default_rng(1)
    x, kernel, bias = (numbers(rng, s) for s in [(2, 6, 5, 4), (3, 2, 2, 4), (4,)])
    options = {"strides": (2, 1), "padding": 1, "padding_mode": "reflect", "groups": 2}
    assert_array_equal(
        ops.convolve(x, kernel, bias, **options), ops.conv(x, kernel[::-1, ::-1], bias, **options)
    )


def test_depthwise_gives_each_channel_adjacent_outputs_of_its_own() -> None:
    rng = np.random.default_rng(2)
    x, kernel, bias = (numbers(rng, s) for s in [(1, 6, 5, 2), (2, 3, 1, 6), (6,)])
    y = ops.depthwise_conv(x, kernel, bias, dilation=(2, 1))
    for channel in range(2):
        block = slice(3 * channel, 3 * channel + 3)
        alone = ops.conv(x[..., channel, None], kernel[..., block], bias[block], dilation=(2, 1))
        assert_array_equal(y[..., block], alone)


@pytest.mark.parametrize("rank", [1, 2, 3])
@pytest.mark.parametrize("mode", ["valid", "full"])
def test_conv_and_convolve_agree_with_scipy_signal(mode: str, rank: int) -> None:
    rng = np.random.default_rng(rank)
    x, kernel = numbers(rng, (7, 6, 5)[:rank]), numbers(rng, (3, 2, 4)[:rank])
    for ours, theirs in [
        (ops.conv, scipy.signal.correlate),
        (ops.convolve, scipy.signal.convolve),
    ]:
        y = ours(x[None, ..., None], kernel[..., None, None], padding=mode.upper())
        assert_array_equal(y[0, ..., 0], theirs(x, kernel, mode=mode, method="direct"))


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("zeros", "constant"),
        ("reflect", "mirror"),
        ("replicate", "nearest"),
        ("circular", "wrap"),
    ],
)
@pytest.mark.parametrize("window", [(3,), (4,), (3, 2), (2, 2, 3)])
def test_padding_modes_agree_with_scipy_ndimage(
    ours: str, theirs: str, window: tuple[int, ...]
) -> None:
    """For even windows SciPy pads more before to correlate, and more after to convolve."""
    rng = np.random.default_rng(len(window))
    x, kernel = numbers(rng, (7, 6, 5)[: len(window)]), numbers(rng, window)
    for op, reference, padding in [
        (ops.conv, scipy.ndimage.correlate, "SAME_LOWER"),
        (ops.convolve, scipy.ndimage.convolve, "SAME"),
    ]:
        y = op(x[None, ..., None], kernel[..., None, None], padding=padding, padding_mode=ours)
        assert_array_equal(y[0, ..., 0], reference(x, kernel, mode=theirs))


@pytest.mark.parametrize("mode", ["reflect", "replicate", "circular"])
@pytest.mark.parametrize("padding", ["SAME", "SAME_LOWER", "FULL", ((2, 1), (0, 3))])
@pytest.mark.parametrize("strides", [1, 2, 3])
def test_the_mode_never_moves_the_sampling_grid(
    mode: str, padding: ops.Padding, strides: int
) -> None:
    """Windows inside the input give the same outputs in every mode; there are some."""
    rng = np.random.default_rng(3)
    x, kernel = numbers(rng, (1, 11, 10, 1)), np.abs(numbers(rng, (2, 4, 1, 1))) + 1
    options = {"strides": strides, "dilation": (2, 1), "padding": padding}
    zeros, other, whole = (
        ops.conv(image, kernel, padding_mode=m, **options)
        for image, m in [(x, "zeros"), (x, mode), (np.ones_like(x), "zeros")]
    )
    inside = np.asarray(whole) == kernel.sum()
    assert inside.sum() >= 4
    assert_array_equal(np.asarray(other)[inside], np.asarray(zeros)[inside])


@given(case=cases())
def test_conv_agrees_with_pytorch(case: Case) -> None:
    torch = pytest.importorskip("torch", reason="PyTorch is not installed: pip install torch")
    x, kernel, bias = case.x(), case.kernel(), case.bias()
    mode = {"zeros": "constant"}.get(case.mode, case.mode)
    sides = zip(case.windows.before[::-1], case.windows.after[::-1], strict=True)
    padded = torch.nn.functional.pad(
        torch.tensor(np.moveaxis(x, -1, 1)), [side for pair in sides for side in pair], mode
    )
    conv = getattr(torch.nn.functional, f"conv{len(case.windows.size)}d")
    expected = conv(
        padded,
        torch.tensor(np.moveaxis(kernel, (-1, -2), (0, 1))),
        torch.tensor(bias),
        stride=case.windows.strides,
        dilation=case.windows.dilation,
        groups=case.groups,
    )
    y = jax.jit(lambda *arrays: ops.conv(*arrays, **case.arguments))(x, kernel, bias)
    assert_array_equal(y, np.moveaxis(expected.numpy(), 1, -1))


@pytest.mark.parametrize("implementation", ["reference", "fastest"])
@pytest.mark.parametrize("strides", [1, 2])
@pytest.mark.parametrize(
    ("size", "pairs"),
    [
        ((6, 5), ((0, 0), (-1, 1))),
        ((6, 5), ((-1, 1), (0, 0))),
        ((6, 5), ((0, 0), (-1, 2))),
        ((6, 5), ((3, 0), (4, 0))),
        ((9,), ((-1, 1),)),
        ((5, 6, 5), ((1, 1), (0, 0), (-1, 2))),
    ],
)
def test_no_memory_beside_the_input_is_read(
    size: tuple[int, ...], pairs: tuple[tuple[int, int], ...], strides: int, implementation: str
) -> None:
    """Windows on an input that is cut and padded with NumPy; all values are small whole numbers.

    XLA's own padding gave other values, up to 1e38, in the output or in the input's gradient.
    """
    rng, rank = np.random.default_rng(0), len(size)
    x, kernel = numbers(rng, (2, *size, 3)), numbers(rng, (*(3,) * rank, 3, 4))
    cut = tuple(
        slice(max(0, -lo), n - max(0, -hi)) for n, (lo, hi) in zip(size, pairs, strict=True)
    )
    added = [(max(0, lo), max(0, hi)) for lo, hi in pairs]

    def padded(x: np.ndarray) -> np.ndarray:
        return np.pad(x[:, *cut], [(0, 0), *added, (0, 0)])

    inside = partial(ops.conv, strides=strides)
    with use(implementation):
        f = jax.jit(partial(ops.conv, strides=strides, padding=pairs))
        assert_array_equal(f(x, kernel), inside(padded(x), kernel))
        slope = numbers(rng, f(x, kernel).shape)
        found = jax.jit(lambda *a: jax.vjp(f, *a)[1](slope))(x, kernel)
        over_x, over_kernel = jax.vjp(inside, padded(x), kernel)[1](slope)
    expected = np.zeros_like(x)
    kept = tuple(slice(lo, n - hi) for n, (lo, hi) in zip(over_x.shape[1:], added, strict=False))
    expected[:, *cut] = over_x[:, *kept]
    assert_array_equal(found[0], expected)
    assert_array_equal(found[1], over_kernel)
