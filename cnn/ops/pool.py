"""Pooling: each window becomes one number per channel."""

import functools
import math
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import check_input, promote_floats
from cnn.ops.conv import depthwise_conv
from cnn.ops.filters import binomial_blur
from cnn.ops.implementations import compute
from cnn.ops.padding import PaddingMode, finite, pad_constant
from cnn.ops.patches import MAX_TAPS, shifted_views, windows
from cnn.ops.window import Padding, Size, WindowSpec, per_axis, window_spec


def max_pool(
    x: Float[Array, "batch *spatial c"],
    window: Size,
    *,
    strides: Size | None = None,
    padding: Padding = "VALID",
    dilation: Size = 1,
) -> Float[Array, "batch *out c"]:
    """Return the largest value in each window, ignoring padding.

    The stride defaults to the window. The gradient goes to the first of equal values, never to
    padding.
    """
    (x,) = promote_floats(x=x)
    spec = _pool_spec(x, window, strides, padding, dilation)
    if max(spec.dilation) > 1 or min(map(min, spec.pairs)) < 0:  # no gradient of reduce_window

        def dilated(x: Array) -> Array:
            padded = pad_constant(-jnp.inf, x, spec.pairs)
            if math.prod(spec.window) > MAX_TAPS:
                return first_largest(windows(padded, spec), -2)
            return functools.reduce(_larger, shifted_views(padded, spec))

        return _above_padding(dilated, spec)(x)
    definition = functools.partial(
        lax.reduce_window, init_value=-jnp.inf, computation=lax.max, **_reduce_window_kwargs(spec)
    )
    return compute("max_pool", _above_padding(definition, spec), x, spec=spec)


def _above_padding(pool: Callable[[Array], Array], spec: WindowSpec) -> Callable[[Array], Array]:
    """Return `pool`, but its gradient takes −inf in `x` for the smallest finite number.

    Padding is −inf, too. It could otherwise come first among equal values.
    """
    if not spec.is_padded:
        return pool
    pooled = jax.custom_jvp(pool)

    @pooled.defjvp
    def jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        _, dy = jax.jvp(pool, (finite(*primals),), tangents)
        return pooled(*primals), dy

    return pooled


def first_largest(x: Array, axis: int) -> Array:
    """Return the largest value along an axis; the gradient goes to the first of equal ones."""
    axis %= x.ndim
    place = lax.broadcasted_iota(jnp.int32, x.shape, axis)
    definition = functools.partial(jnp.argmax, axis=axis, keepdims=True)
    first = compute("argmax", definition, x, axis=axis)
    return jnp.where(place == first, x, 0).sum(axis)


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

    The mean excludes padding. With `count_padding` it includes padding as zeros, and equals the
    convolution of each channel with the constant kernel 1 / window.
    """
    (x,) = promote_floats(x=x)
    spec = _pool_spec(x, window, strides, padding, dilation)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    total = lax.reduce_window(wide, 0.0, lax.add, **_reduce_window_kwargs(spec))
    counts = functools.reduce(np.multiply.outer, _counts(spec))
    if count_padding:
        counts = np.full_like(counts, np.prod(spec.window))
    return (total / counts[None, ..., None].astype(total.dtype)).astype(x.dtype)


def _pool_spec(
    x: Array, window: Size, strides: Size | None, padding: Padding, dilation: Size
) -> WindowSpec:
    """Return the windows. Raise `InputError` if one of them has no input."""
    check_input(x.shape)
    strides = window if strides is None else strides
    spec = window_spec(x.shape[1:-1], window, strides, padding, dilation)
    if not all(counts.all() for counts in _counts(spec)):
        raise InputError(
            f"padding must leave input in every window {spec.window} on size {spec.size}, "
            f"got {padding!r}: pad less"
        )
    return spec


def _counts(spec: WindowSpec) -> list[np.ndarray]:
    """Return the number of input positions in each window, for each axis."""
    counts = []
    for n, k, s, (lo, _), r, out in zip(*spec, spec.out, strict=True):
        start = np.arange(out) * s - lo
        # Tap a is inside where 0 ≤ start + a · r < n.
        first, end = -(start // r), -((start - n) // r)
        counts.append(np.maximum(np.minimum(end, k) - np.maximum(first, 0), 0))
    return counts


def _reduce_window_kwargs(spec: WindowSpec) -> dict[str, Any]:
    return {
        "window_dimensions": (1, *spec.window, 1),
        "window_strides": (1, *spec.strides, 1),
        "padding": ((0, 0), *spec.pairs, (0, 0)),
        "window_dilation": (1, *spec.dilation, 1),
    }


def global_avg_pool(x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch c"]:
    """Return the mean of each channel over all positions."""
    (x,) = promote_floats(x=x)
    check_input(x.shape)
    return x.mean(axis=tuple(range(1, x.ndim - 1)))


def global_max_pool(x: Float[Array, "batch *spatial c"]) -> Float[Array, "batch c"]:
    """Return the largest value of each channel over all positions.

    The gradient goes to the first of equal values, as in `max_pool`.
    """
    (x,) = promote_floats(x=x)
    check_input(x.shape)
    return first_largest(x.reshape(x.shape[0], math.prod(x.shape[1:-1]), x.shape[-1]), 1)


def max_pool_channels(
    x: Float[Array, "batch *spatial c"], group: int
) -> Float[Array, "batch *spatial c_out"]:
    """Return the largest of every `group` adjacent channels: maxout (Goodfellow et al. 2013).

    The gradient goes to the first of equal values, as in `max_pool`.
    """
    (x,) = promote_floats(x=x)
    (group,) = per_axis(group, 1, "group")
    if x.shape[-1] % group:
        raise InputError(
            f"group must divide the channels: got group={group}, channels={x.shape[-1]}"
        )
    return first_largest(x.reshape(*x.shape[:-1], x.shape[-1] // group, group), -1)


def blur_pool(
    x: Float[Array, "batch *spatial c"],
    window: int = 3,
    strides: Size = 2,
    *,
    padding_mode: PaddingMode = "reflect",
) -> Float[Array, "batch *out c"]:
    """Blur with the binomial filter of `window` taps per axis, then subsample (Zhang 2019).

    The output has ⌈n / stride⌉ positions, centred on every stride-th input from the first on. With
    an even window, centres are shifted by half a position.
    """
    check_input(x.shape)
    rank = x.ndim - 2
    kernel = jnp.tile(binomial_blur(window, rank), x.shape[-1]).astype(x.dtype)
    padding = (((window - 1) // 2, window // 2),) * rank
    return depthwise_conv(x, kernel, strides=strides, padding=padding, padding_mode=padding_mode)
