"""The table of `cnn.ops.implementations`: which shapes use which implementation."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cnn import ops
from cnn.ops import implementations
from cnn.ops.cpu import one_group


def conv_choice(
    x: tuple[int, ...], kernel: tuple[int, ...], strides: int = 1, dtype: jnp.dtype = jnp.float32
) -> str:
    spec = ops.window_spec(x[1:-1], kernel[:-2], strides, "SAME")
    arrays: Any = [jax.ShapeDtypeStruct(shape, dtype) for shape in (x, kernel)]
    chosen: Any = implementations.choose("conv", *arrays, spec=spec)
    if chosen is None:
        return "definition"
    if chosen.func is one_group.convolve:
        return one_group.choice(x, kernel, spec)
    name: str = chosen.func.__name__
    return name


def test_choice_for_a_convolution() -> None:
    """By hand where bounds decide, and else where one way is much faster than the others."""
    assert conv_choice((1, 9, 9, 64), (3, 3, 1, 64)) == "depthwise"
    assert conv_choice((1, 9, 9, 64), (8, 8, 1, 64)) == "depthwise"
    assert conv_choice((1, 9, 9, 64), (9, 9, 1, 64)) == "grouped"  # 81 taps
    assert conv_choice((1, 9, 9, 64), (3, 3, 1, 128)) == "grouped"  # 2 filters for each channel
    assert conv_choice((1, 99, 64), (129, 1, 64)) == "definition"
    assert conv_choice((1, 9, 9, 64), (3, 3, 32, 64)) == "grouped"
    assert conv_choice((32, 12, 12, 40), (7, 7, 40, 1), strides=2) == "whole_map"
    assert conv_choice((128, 28, 28, 1), (5, 5, 1, 6)) == "toeplitz"
    assert conv_choice((64, 4096, 1), (5, 1, 8)) == "toeplitz"
    assert conv_choice((128, 64, 64, 32), (5, 5, 32, 96)) == "kernel_gradient"  # 1 GB otherwise
    assert conv_choice((64, 541, 176), (2, 176, 4)) == "kn2row"
    assert conv_choice((999, 99, 99, 64), (1, 1, 64, 64)) == "im2col"  # one tap: nothing is copied
    assert conv_choice((64, 33, 33, 64), (3, 3, 64, 64)) == "winograd"
    assert conv_choice((16, 224, 224, 3), (16, 16, 3, 192), strides=16) == "strided"  # patches
    assert conv_choice((32, 64, 64, 3), (7, 7, 3, 64), strides=2) == "strided"
    assert conv_choice((8, 17, 17, 17, 3), (7, 7, 7, 3, 25), strides=3) == "volumes"
    assert conv_choice((1, 9, 9, 4), (1, 1, 4, 4), dtype=jnp.bfloat16) == "definition"


@pytest.mark.parametrize(
    ("x", "kernel", "strides"),
    [((128, 64, 64, 64), (23, 23, 64, 64), 2), ((128, 40, 40, 40, 16), (15, 15, 15, 16, 16), 1)],
)
def test_nothing_fits_blocks_or_images(
    x: tuple[int, ...], kernel: tuple[int, ...], strides: int
) -> None:
    """By hand: 144 and 225 taps are too many for slices, and their blocks exceed 256 MB."""
    assert conv_choice(x, kernel, strides) == "definition"
    arrays: Any = [jax.ShapeDtypeStruct(shape, jnp.float32) for shape in (x, kernel)]
    with implementations.use("fastest"):
        y = jax.eval_shape(lambda x, w: ops.conv(x, w, strides=strides, padding="SAME"), *arrays)
    assert y.shape == (x[0], *(-(-n // strides) for n in x[1:-1]), kernel[-1])


def test_choices_on_a_gpu() -> None:
    def choice(
        operation: str,
        *shapes: tuple[int, ...],
        strides: int = 1,
        dtype: jnp.dtype = jnp.bfloat16,
    ) -> str:
        arrays = [jnp.zeros(shape, dtype) for shape in shapes]
        window = shapes[1][:-2] if len(shapes) > 1 else 2
        spec = ops.window_spec(shapes[0][1:-1], window, strides)
        chosen = implementations.choose(operation, *arrays, platform="cuda", spec=spec)
        return chosen.func.__module__ if chosen else "definition"

    assert choice("conv", (1, 9, 9, 6), (5, 5, 6, 16)) == "cnn.ops.cpu.toeplitz"
    assert choice("conv", (1, 9, 9, 3), (3, 3, 3, 64)) == "definition"
    assert choice("conv", (1, 9, 9, 6), (5, 5, 6, 16), strides=2) == "definition"
    assert choice("conv", (1, 9, 9, 6), (1, 1, 6, 16)) == "definition"
    assert choice("max_pool", (1, 9, 9, 64), strides=2) == "cnn.ops.gpu.pool"
    assert choice("max_pool", (1, 9, 9, 64), strides=1) == "definition"
    assert choice("max_pool", (1, 9, 9, 64), strides=2, dtype=jnp.float32) == "definition"


def test_choice_for_a_dense_layer() -> None:
    assert implementations.choose("dense", jnp.ones((1, 256)), jnp.ones((256, 256))) is not None
    assert implementations.choose("dense", jnp.ones((1, 255)), jnp.ones((255, 256))) is None


@pytest.mark.parametrize(
    ("window", "strides", "c_out", "chosen"),
    [(9, 2, 8, "strided"), (9, 2, 17, None), (9, 3, 8, None), (5, 2, 8, None), (8, 7, 8, None)],
)
def test_choice_for_a_local_convolution_with_strides(
    window: int, strides: int, c_out: int, chosen: str | None
) -> None:
    """By hand: more than 32 taps, at most 16 channels in a block, few taps beside the window."""
    c_in = 1 if strides == 7 else 3
    spec = ops.window_spec((32, 32), window, strides)
    x, kernel = jnp.ones((1, 32, 32, c_in)), jnp.ones((*spec.out, *spec.window, c_in, c_out))
    found = implementations.choose("conv_local", x, kernel, spec=spec)
    assert (found and found.func.__name__) == chosen  # type: ignore[attr-defined]


def test_choice_for_a_local_convolution() -> None:
    spec = ops.window_spec((9, 9), 1)
    for channels, c_out, chosen in [(1, 17, False), (1, 16, True), (2, 16, False)]:  # 2: 2 groups
        x, kernel = jnp.ones((1, 9, 9, channels)), jnp.ones((9, 9, 1, 1, 1, c_out))
        assert (implementations.choose("conv_local", x, kernel, spec=spec) is not None) == chosen


def test_choice_for_max_pooling() -> None:
    x = jnp.ones((1, 9, 9, 1))
    for window, chosen in [(4, True), (5, False)]:
        spec = ops.window_spec((9, 9), window)
        assert (implementations.choose("max_pool", x, spec=spec) is not None) == chosen


def test_operations_use_the_table() -> None:
    """Every operation of the table has a choice by platform in what it traces to."""
    x, kernel = jnp.ones((1, 4, 4, 1)), jnp.ones((2, 2, 1, 1))
    calls = {
        "conv": lambda: ops.conv(x, kernel),
        "conv_local": lambda: ops.conv_local(x, jnp.ones((3, 3, 2, 2, 1, 1))),
        "max_pool": lambda: ops.max_pool(x, 2),
        "argmax": lambda: ops.global_max_pool(x),
        "adaptive_max_pool": lambda: ops.adaptive_max_pool(x, 3),
        "adaptive_avg_pool": lambda: ops.adaptive_avg_pool(x, 3),
        "dense": lambda: ops.dense(jnp.ones((1, 256)), jnp.ones((256, 256))),
    }
    assert calls.keys() == implementations.TABLE.keys()
    for call in calls.values():
        with implementations.use("fastest"):
            assert "platform_index" in str(jax.make_jaxpr(call)())
        with implementations.use("reference"):
            assert "platform_index" not in str(jax.make_jaxpr(call)())


SIGNALS = {
    "conv, few channels": lambda x: ops.conv(x, jnp.ones((5, 2, 8)), padding="SAME"),
    "conv, many channels": lambda x: ops.conv(x @ jnp.ones((2, 32)), jnp.ones((5, 32, 40))),
    "depthwise": lambda x: ops.conv(x, jnp.ones((5, 1, 2)), groups=2),
    "conv_local": lambda x: ops.conv_local(x, jnp.ones((x.shape[1] - 4, 5, 2, 8))),
    "conv_local, strided": lambda x: ops.conv_local(
        x, jnp.ones(((x.shape[1] - 3) // 2, 5, 2, 8)), strides=2
    ),
    "conv_tiled": lambda x: ops.conv_tiled(x, jnp.ones((7, 5, 2, 8))),
    "max_pool": lambda x: ops.max_pool(x, 3, strides=2),
    "avg_pool": lambda x: ops.avg_pool(x, 3, strides=2),
    "blur_pool": lambda x: ops.blur_pool(x),
    "adaptive_avg_pool": lambda x: ops.adaptive_avg_pool(x, x.shape[1] // 3),
    "adaptive_max_pool": lambda x: ops.adaptive_max_pool(x, x.shape[1] // 3),
    "images": lambda x: ops.conv(x[:, :, None].repeat(8, 2), jnp.ones((3, 3, 2, 8))),
    "images, many channels": lambda x: ops.conv(
        x[:, :, None].repeat(8, 2) @ jnp.ones((2, 32)), jnp.ones((3, 3, 32, 32))
    ),
}


@pytest.mark.parametrize("name", SIGNALS)
def test_programs_do_not_grow_with_the_data(name: str) -> None:
    """Equations, with gradients, for signals of 1,999, 3,989 and 7,993 samples: primes.

    Where blocks have a size that divides the output, there are up to a fifth fewer.
    """
    f = jax.grad(lambda x: jnp.sin(SIGNALS[name](x)).sum())

    def equations(n: int) -> int:
        with implementations.use("fastest"):
            return str(jax.make_jaxpr(f)(jnp.zeros((2, n, 2)))).count(" = ")

    counts = [equations(n) for n in (1999, 3989, 7993)]
    assert max(counts) <= 1.25 * min(counts)


WINDOWS = {
    "conv, few channels": lambda x, k: ops.conv(x, jnp.ones((k, 2, 8)), padding="SAME"),
    "conv_local": lambda x, k: ops.conv_local(
        x, jnp.ones(((4000 - k) // 100 + 1, k, 2, 8)), strides=100
    ),
    "conv_tiled": lambda x, k: ops.conv_tiled(x, jnp.ones((7, k, 2, 8))),
    "patches": lambda x, k: ops.patches(x, k, strides=100),
    "max_pool": lambda x, k: ops.max_pool(x, k, strides=100),
    "max_pool, dilated": lambda x, k: ops.max_pool(x, k, strides=100, dilation=2),
}


@pytest.mark.parametrize("name", WINDOWS)
def test_programs_do_not_grow_with_large_windows(name: str) -> None:
    f = jax.grad(lambda x, k: jnp.sin(WINDOWS[name](x, k)).sum())

    def equations(k: int) -> int:
        with implementations.use("fastest"):
            program = jax.make_jaxpr(f, static_argnums=1)(jnp.zeros((2, 4000, 2)), k)
            return str(program).count(" = ")

    assert equations(1999) <= 1.05 * equations(1799)  # 1.11 times the taps
