"""Group convolution: the equation as loops over matrices, exact symmetry, and what breaks it."""

from __future__ import annotations

import itertools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from cnn import ops
from cnn.errors import InputError
from tests.ops import loops
from tests.ops.strategies import numbers
from tests.ops.turns import CASES, MATRICES, SIZES, moved, number, turn


def looped(
    x: np.ndarray, kernel: np.ndarray, group: ops.Group, windows: loops.Windows, mode: str
) -> np.ndarray:
    """y[p, o, r] = Σ_a Σ_s Σ_c x[cell(p, a), c, s] · kernel[r⁻¹ a, r⁻¹ s, c, o]."""
    matrices, rank = MATRICES[group], len(windows.size)
    order, lifting = len(matrices), kernel.ndim == len(windows.size) + 2
    c_in, c_out = kernel.shape[-2:]
    y = np.zeros((len(x), *windows.out, c_out * order))
    for r, p, a in itertools.product(
        range(order), loops.indices(windows.out), loops.indices(windows.window)
    ):
        inverse = matrices[r].T
        cell = windows.cell(p, a, mode)
        tap = moved(inverse, a, windows.window)
        for s, c, o in itertools.product(range(1 if lifting else order), range(c_in), range(c_out)):
            if cell is None:
                continue
            weight = kernel[tap] if lifting else kernel[tap][number(group, inverse @ matrices[s])]
            channel = c if lifting else c * order + s
            y[:, *p, o * order + r] += x[:, *cell, channel] * weight[c, o]
    assert rank == len(SIZES[group])
    return y


@pytest.mark.parametrize("lifting", [True, False], ids=["lifting", "group"])
@pytest.mark.parametrize("mode", ["zeros", "circular"])
@pytest.mark.parametrize("window", [1, 2, 3])
@pytest.mark.parametrize("group", MATRICES)
def test_conv_group_is_the_equation(
    group: ops.Group, window: int, mode: str, lifting: bool
) -> None:
    rng, rank, order = np.random.default_rng(window), len(SIZES[group]), len(MATRICES[group])
    strides, dilation = (2, 1) if window == 3 else (1, 2)
    x = numbers(rng, (2, *SIZES[group], 2 if lifting else 2 * order))
    shape = (*(window,) * rank, *(() if lifting else (order,)), 2, 3)
    kernel, bias = numbers(rng, shape), numbers(rng, (3,))
    options: dict[str, Any] = {"strides": strides, "dilation": dilation, "padding": 1}
    y = ops.conv_group(x, kernel, bias, group=group, padding_mode=mode, **options)
    one = (1,) * rank
    windows = loops.Windows(
        SIZES[group], (window,) * rank, (strides,) * rank, one, one, (dilation,) * rank
    )
    expected = looped(x, kernel, group, windows, mode) + np.repeat(bias, order)
    assert_array_equal(y, expected, strict=False)


@pytest.mark.parametrize(("group", "t"), CASES)
def test_the_output_of_a_turned_input_is_the_turned_and_permuted_output(
    group: ops.Group, t: int
) -> None:
    """On an odd size with a circular border, by a lifting and two group convolutions, exactly."""
    rng, rank, order = np.random.default_rng(0), len(SIZES[group]), len(MATRICES[group])
    x = numbers(rng, (2, *SIZES[group], 2))
    window = (3,) * rank
    kernels = [numbers(rng, (*window, 2, 2)), numbers(rng, (*window, order, 2, 3))]
    strided = numbers(rng, (*window, order, 3, 2))

    def network(x: np.ndarray) -> np.ndarray:
        y: Any = x
        for kernel in kernels:
            y = ops.conv_group(y, kernel, group=group, padding=1, padding_mode="circular")
        return np.asarray(ops.conv_group(y, strided, group=group, strides=2))

    y = network(x)
    assert_array_equal(network(turn(x, group, t, False)), turn(y, group, t, True))
    assert t == 0 or np.abs(turn(y, group, t, False) - y).max() > 1  # it is not constant


def test_turn_is_rot90_and_the_channels_move_by_one() -> None:
    """The test's own transformations, in the words of NumPy."""
    x = numbers(np.random.default_rng(0), (1, 3, 3, 8))
    assert_array_equal(turn(x, "p4", 1, False), np.rot90(x, axes=(1, 2)))
    assert_array_equal(turn(x, "p4m", 4, False), x[:, :, ::-1])
    by_feature = np.rot90(x, axes=(1, 2)).reshape(1, 3, 3, 2, 4)
    assert_array_equal(turn(x, "p4", 1, True), np.roll(by_feature, 1, -1).reshape(x.shape))


def test_an_edge_detector_by_hand() -> None:
    """One kernel sees steps up and down, and the four copies of it steps in four directions."""
    step = np.array([-1.0, 0, 1], np.float32).reshape(3, 1, 1)
    x = np.array([0, 0, 5, 5, 5], np.float32).reshape(1, 5, 1)
    y = ops.conv_group(x, step, group="flip")
    assert_array_equal(y[0], [[5, -5], [5, -5], [0, 0]])
    mixed = np.array([1.0, 100], np.float32).reshape(1, 2, 1, 1)  # of itself and its reflection
    y = ops.conv_group(np.array([[[2.0, 3]]], np.float32), mixed, group="flip")
    assert_array_equal(y[0, 0], [2 * 1 + 3 * 100, 3 * 1 + 2 * 100])
    down = np.zeros((3, 3, 1, 1), np.float32)
    down[2, 1] = 1
    image = np.arange(9, dtype=np.float32).reshape(1, 3, 3, 1)
    y = ops.conv_group(image, down, group="p4")  # below, right, above, left of the centre
    assert_array_equal(y[0, 0, 0], [7, 5, 1, 3])


def test_groups_of_features() -> None:
    rng = np.random.default_rng(3)
    x, kernel = numbers(rng, (1, 5, 5, 16)), numbers(rng, (3, 3, 4, 2, 6))
    y = ops.conv_group(x, kernel, group="p4", groups=2)
    halves = [
        ops.conv_group(x[..., 8 * i : 8 * i + 8], kernel[..., 3 * i : 3 * i + 3], group="p4")
        for i in range(2)
    ]
    assert_array_equal(y, np.concatenate(halves, -1))


def test_every_weight_has_as_many_copies_as_there_are_transformations() -> None:
    kernel = jnp.arange(1.0, 1 + 9 * 8 * 2 * 3).reshape(3, 3, 8, 2, 3)
    made = ops.group_kernel(kernel, "p4m")
    assert made.shape == (3, 3, 16, 24)
    values, counts = np.unique(made, return_counts=True)
    assert_array_equal(values, kernel.ravel())
    assert set(counts.tolist()) == {8}


def test_pooling_over_the_transformations() -> None:
    x = jnp.array([[1.0, 2, 3, 6, -4, -2, -3, -3]])
    assert_array_equal(ops.group_pool(x, "p4"), [[6, -2]])
    assert_array_equal(ops.group_pool(x, "p4", "mean"), [[3, -3]])
    assert_array_equal(ops.group_pool(x, "p4m"), [[6]])
    assert_array_equal(ops.group_pool(x, "flip"), [[2, 6, -2, -3]])


@pytest.mark.parametrize(("size", "error"), [(7, (0.55, 0.75)), (29, (0.55, 0.75)), (8, (0, 1e-6))])
def test_a_pooling_that_leaves_out_the_last_position_breaks_the_symmetry(
    size: int, error: tuple[float, float]
) -> None:
    """Of an odd size, windows of 2 leave out the last row and column: the error is about 60 %."""
    x = np.random.default_rng(0).normal(size=(4, size, size, 1)).astype(np.float32)
    kernel = np.random.default_rng(1).normal(size=(3, 3, 1, 2)).astype(np.float32)

    def network(x: np.ndarray) -> np.ndarray:
        y = ops.conv_group(x, kernel, group="p4", padding=1, padding_mode="circular")
        return np.asarray(ops.max_pool(y, 2))

    y, turned = network(x), network(turn(x, "p4", 1, False))
    difference = np.linalg.norm(turned - turn(y, "p4", 1, True)) / np.linalg.norm(y)
    assert error[0] <= difference <= error[1]


def test_the_program_has_one_convolution_whatever_the_sizes() -> None:
    def count(size: int, features: int) -> tuple[int, int]:
        x, kernel = jnp.zeros((1, size, size, 8)), jnp.zeros((3, 3, 8, 1, features))
        f = jax.jit(lambda x, k: ops.conv_group(x, k, group="p4m"))
        text = f.lower(x, kernel).as_text()
        return text.count("stablehlo.convolution"), text.count("\n")

    (convolutions, lines), (same, more) = count(9, 1), count(33, 16)
    assert convolutions == same
    assert lines == more


X, KERNEL = np.zeros((1, 8, 8, 4), np.float32), np.zeros((3, 3, 4, 1, 1), np.float32)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"group": "p6"}, "unknown group 'p6': did you mean 'p4'"),
        ({"group": "flip"}, "group must fit 2 spatial axes, got 'flip', .* choose 'p4' or 'p4m'"),
        ({"x": X[0], "group": "p4m"}, "fit 1 spatial axes, got 'p4m', .* for 2: choose 'flip'"),
        ({"x": X[..., None]}, "group must fit 3 spatial axes, got 'p4', .*: there is none"),
        ({"kernel": KERNEL[:2]}, r"window must be square for group 'p4', got \(2, 3\)"),
        ({"kernel": KERNEL[:, :, :3]}, "must have 4 transformations on axis 3 for group 'p4'"),
        ({"kernel": KERNEL[0, 0]}, r"must have 4 axes .* to lift, or 5 .*, got shape \(4, 1, 1\)"),
        ({"x": X[..., :3]}, r"x must have 4 channels for a kernel of shape .* groups=1, got 3"),
        ({"strides": (1, 2)}, r"strides must be the same on both axes .*, got \(1, 2\)"),
        ({"dilation": (1, 2)}, r"dilation must be the same on both axes .*, got \(1, 2\)"),
        ({"padding": (1, 2)}, r"padding must be the same on both axes .*, got \(1, 2\)"),
        ({"padding": ((0, 1), (0, 1))}, r"same on both sides .*, got \(0, 1\) on axis 1"),
        (
            {"strides": 2},
            r"got strides 2 and 8 \+ 0 − 3 on axis 1: use a map of size 7 or 9, or strides 1",
        ),
        ({"bias": np.zeros(4, np.float32)}, r"bias must have shape \(1,\), got \(4,\)"),
        ({"groups": 2}, "groups must divide the output features: got groups=2, output features=1"),
    ],
)
def test_what_has_no_exact_symmetry_is_refused(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        ops.conv_group(**{"x": X, "kernel": KERNEL, "group": "p4"} | arguments)
    assert "\n" not in str(error.value)


def test_pooling_refuses_what_it_does_not_know() -> None:
    with pytest.raises(InputError, match=r"channels must be a multiple of 4, .* 'p4', got 6"):
        ops.group_pool(jnp.zeros((1, 6)), "p4")
    with pytest.raises(InputError, match="unknown kind 'sum': choose one of max, mean"):
        ops.group_pool(jnp.zeros((1, 4)), "p4", "sum")  # type: ignore[arg-type]


def test_rotations_keep_float64() -> None:
    with jax.enable_x64(True):
        x, kernel = jnp.ones((1, 3, 3, 1), jnp.float64), jnp.full((3, 3, 1, 1), 0.1, jnp.float32)
        assert ops.conv_group(x, kernel, group="p4").dtype == jnp.float64
        assert_allclose(ops.conv_group(x, kernel, group="p4"), 0.9, rtol=1e-6)
