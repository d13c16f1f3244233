"""Pooling: what a window holds, in one number per channel."""

from __future__ import annotations

import functools

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops import cpu
from cnn.ops.checks import check_map, floats
from cnn.ops.conv import depthwise_conv
from cnn.ops.cpu.patches import taps
from cnn.ops.filters import blur
from cnn.ops.padding import PaddingMode
from cnn.ops.window import Padding, Size, WindowSpec, per_axis, window_spec


def max_pool(
    x: Float[Array, "batch *spatial c"],
    window: Size,
    *,
    strides: Size | None = None,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> Float[Array, "batch *out c"]:
    """Return the largest value in each window; the stride defaults to the window.

    Padding never wins. The gradient goes to the first of equal values.
    Raises `InputError` if the window does not fit, or sees nothing but padding.
    """
    (x,) = floats(x=x)
    at, _ = _place(x, window, strides, padding, dilation)
    if max(at.dilation) > 1 or min(map(min, at.pairs)) < 0:  # reduce_window has no gradient here
        lowest = jnp.array(-jnp.inf, x.dtype)
        padded = lax.pad(x, lowest, [(0, 0, 0), *((*pair, 0) for pair in at.pairs), (0, 0, 0)])
        return functools.reduce(_larger, taps(padded, at))
    definition = functools.partial(
        lax.reduce_window, init_value=-jnp.inf, computation=lax.max, **_windows(at)
    )
    return cpu.compute(definition, cpu.max_pool_on_cpu(x.dtype, at), x)


def _larger(first: Array, second: Array) -> Array:
    return jnp.where((first >= second) | jnp.isnan(first), first, second)


def avg_pool(
    x: Float[Array, "batch *spatial c"],
    window: Size,
    *,
    strides: Size | None = None,
    padding: Padding = "VALID",
    dilation: Size = 1,
    count_padding: bool = False,
) -> Float[Array, "batch *out c"]:
    """Return the mean of each window; the stride defaults to the window.

    The mean is over the cells that are there; with `count_padding`, over zeros in the padding too,
    and then it is the convolution of each channel with the kernel that is 1 / window everywhere.
    Raises `InputError` if the window does not fit, or sees nothing but padding.
    """
    (x,) = floats(x=x)
    at, counts = _place(x, window, strides, padding, dilation)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    total = lax.reduce_window(wide, 0.0, lax.add, **_windows(at))
    if count_padding:
        counts = np.full_like(counts, np.prod(at.window))
    return (total / counts[None, ..., None].astype(total.dtype)).astype(x.dtype)


def _place(
    x: Array, window: Size, strides: Size | None, padding: Padding, dilation: Size
) -> tuple[WindowSpec, np.ndarray]:
    """Place the windows, and count the cells of the input that each of them sees."""
    check_map(x.shape)
    strides = window if strides is None else strides
    at = window_spec(x.shape[1:-1], window, strides, padding, dilation)
    counts = np.ones((), int)
    for n, k, s, (lo, _), r, out in zip(*at, at.out, strict=True):
        seen = np.arange(out)[:, None] * s + np.arange(k) * r - lo
        counts = np.multiply.outer(counts, ((seen >= 0) & (seen < n)).sum(1))
    if not counts.all():
        raise InputError(
            f"padding {padding!r} leaves a window {at.window} with no cell of the input "
            f"{at.size}: pad less"
        )
    return at, counts


def _windows(at: WindowSpec) -> dict[str, tuple]:
    """Return the placement as `lax.reduce_window` names it, over all axes of the array."""
    return {
        "window_dimensions": (1, *at.window, 1),
        "window_strides": (1, *at.strides, 1),
        "padding": ((0, 0), *at.pairs, (0, 0)),
        "window_dilation": (1, *at.dilation, 1),
    }


def global_avg_pool(x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch c"]:
    """Return the mean of each channel over all positions."""
    (x,) = floats(x=x)
    check_map(x.shape)
    return x.mean(axis=tuple(range(1, x.ndim - 1)))


def global_max_pool(x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch c"]:
    """Return the largest value of each channel over all positions."""
    (x,) = floats(x=x)
    check_map(x.shape)
    return x.max(axis=tuple(range(1, x.ndim - 1)))


def max_pool_channels(
    x: Float[Array, "batch *spatial c"], group: int
) -> Float[Array, "batch *spatial c_out"]:
    """Return the largest of every `group` adjacent channels: maxout (Goodfellow et al. 2013).

    Raises `InputError` if `group` does not divide the channels.
    """
    (x,) = floats(x=x)
    (group,) = per_axis(group, 1, "group")
    if x.shape[-1] % group:
        raise InputError(f"group {group} does not divide channels {x.shape[-1]}: use a divisor")
    return x.reshape(*x.shape[:-1], -1, group).max(axis=-1)


def blur_pool(
    x: Float[Array, "batch *spatial c"],
    window: int = 3,
    strides: Size = 2,
    *,
    padding_mode: PaddingMode = "reflect",
) -> Float[Array, "batch *out c"]:
    """Blur, then subsample (Zhang 2019, "Making convolutional networks shift-invariant again").

    The blur is the binomial filter of `window` taps per axis; the output has ⌈n / stride⌉
    positions, centred on every stride-th cell from the first on (even windows: half a cell off).
    Raises `InputError` where the input is too small to be mirrored.
    """
    check_map(x.shape)
    rank = x.ndim - 2
    kernel = jnp.tile(blur(window, rank), x.shape[-1])
    around = ((window - 1) // 2, window // 2)
    return depthwise_conv(
        x,
        kernel.astype(x.dtype),
        strides=strides,
        padding=(around,) * rank,
        padding_mode=padding_mode,
    )
