"""Convolution whose kernel depends on the position: tiled, local, and not even local.

    y[b, p, o] = bias + Σ_a Σ_c x[b, s·p + r·a − lo, c] · kernel[p mod P, a, c, o]

One equation, three degrees of sharing: with period P = 1 it is `conv`, with a larger one the tiled
convolution (Le et al. 2010), with P as large as the output the locally connected layer (LeCun
1989). Without the window it is the dense layer between maps from which the others are derived
(Zhang et al., Dive into Deep Learning, eq. 7.1.1).
"""

from __future__ import annotations

import itertools
import math
from functools import partial

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops import cpu
from cnn.ops.checks import check_kernel, check_map, floats, spread_bias
from cnn.ops.conv import conv
from cnn.ops.cpu.patches import taps
from cnn.ops.padding import PaddingMode, pad
from cnn.ops.window import Padding, Size, WindowSpec, window_spec


def patches(
    x: Float[Array, "batch *spatial c"],
    window: Size,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
) -> Float[Array, "batch *out *window c"]:
    """Return what the window sees at each output position: x[b, s·p + r·a − lo, c]."""
    (x,) = floats(x=x)
    check_map(x.shape)
    at = window_spec(x.shape[1:-1], window, strides, padding, dilation)
    views = jnp.stack(taps(pad(x, at.pairs, padding_mode), at), axis=x.ndim - 1)
    return views.reshape(x.shape[0], *at.out, *at.window, x.shape[-1])


def conv_tiled(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*period_and_window c_in_per_group c_out"],
    bias: Float[Array, "*period_or_none c_out"] | None = None,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
    groups: int = 1,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with the kernels `(*period, *window, c_in / groups, c_out)`, one after another.

    Output position p uses `kernel[p mod period]`, and `bias[p mod period]` if the bias is
    `(*period, c_out)` and not `(c_out,)`. The period need not divide the output. The other
    arguments are those of `conv`.
    Raises `InputError` as `conv` does, and where the period exceeds the output: the kernels beyond
    it would never be used.
    """
    x, kernel = floats(x=x, kernel=kernel)
    rank = x.ndim - 2
    check_kernel(x.shape, kernel.shape, groups, positions=rank)
    period, window = kernel.shape[:rank], kernel.shape[rank:-2]
    at = window_spec(x.shape[1:-1], window, strides, padding, dilation)
    for axis, (P, n) in enumerate(zip(period, at.out, strict=True), 1):
        if not 1 <= P <= n:
            raise InputError(
                f"period {P} is not between 1 and output size {n} on axis {axis}: "
                "the kernel is (*period, *window, c_in / groups, c_out)"
            )
    padded, c_out = pad(x, at.pairs, padding_mode), kernel.shape[-1]
    if math.prod(window) > MOST_TAPS:
        y = _phase_by_phase(padded, kernel, at, period, groups)
    else:
        y = _as_products(padded, kernel, at, period, groups)
    if bias is not None:
        bias = spread_bias(bias, (*period, c_out))
        y = y + jnp.expand_dims(bias, tuple(range(rank, 2 * rank + 1)))
    return jnp.moveaxis(_unfold(y, at.out), rank, 0)


MOST_TAPS = 256
"""With larger windows, a slice for each tap takes too long to compile."""


def _as_products(
    padded: Array, kernel: Array, at: WindowSpec, period: tuple[int, ...], groups: int
) -> Float[Array, "*period_and_repetitions batch c_out"]:
    """Put positions first; then for each phase and group it is a product of two matrices."""
    rank = len(period)
    seen = _fold(jnp.stack(taps(jnp.moveaxis(padded, 0, rank), at, 0), axis=-2), period)
    phases, k, (i, c_out) = math.prod(period), math.prod(at.window), kernel.shape[-2:]
    rows = jnp.moveaxis(seen.reshape(phases, -1, k, groups, i), -2, 1)
    columns = jnp.moveaxis(kernel.reshape(phases, k * i, groups, -1), -2, 1)
    y = rows.reshape(*rows.shape[:3], k * i) @ columns
    return jnp.moveaxis(y, 1, 2).reshape(*seen.shape[:-2], c_out)


def _phase_by_phase(
    padded: Array, kernel: Array, at: WindowSpec, period: tuple[int, ...], groups: int
) -> Float[Array, "*period_and_repetitions batch c_out"]:
    """Phase q is a convolution that begins q strides on and takes P strides at a time."""
    turns = [-(-n // P) for n, P in zip(at.out, period, strict=True)]
    steps = [s * P for s, P in zip(at.strides, period, strict=True)]
    maps = []
    for q in itertools.product(*map(range, period)):
        begin = [slice(i * s, None) for i, s in zip(q, at.strides, strict=True)]
        y = conv(
            padded[(slice(None), *begin)],
            kernel[q],
            strides=steps,
            dilation=at.dilation,
            groups=groups,
        )
        missing = [(0, m - n) for m, n in zip(turns, y.shape[1:-1], strict=True)]
        maps.append(jnp.moveaxis(jnp.pad(y, ((0, 0), *missing, (0, 0))), 0, -2))
    return jnp.stack(maps).reshape(*period, *maps[0].shape)


def _fold(maps: Float[Array, "*out_and_rest"], period: tuple[int, ...]) -> Array:
    """Turn `(*out, ...)` into `(*period, *repetitions, ...)`: p = repetition · period + phase.

    Where the period does not divide the output, zeros fill the last repetition.
    """
    rank, rest = len(period), maps.shape[len(period) :]
    turns = [-(-n // P) for n, P in zip(maps.shape, period, strict=False)]
    missing = [(0, m * P - n) for n, m, P in zip(maps.shape, turns, period, strict=False)]
    maps = jnp.pad(maps, (*missing, *((0, 0) for _ in rest)))
    maps = maps.reshape(*(n for both in zip(turns, period, strict=True) for n in both), *rest)
    phases, repetitions = range(1, 2 * rank, 2), range(0, 2 * rank, 2)
    return maps.transpose(*phases, *repetitions, *range(2 * rank, maps.ndim))


def _unfold(maps: Array, out: tuple[int, ...]) -> Float[Array, "*out_and_rest"]:
    """Put every position back in its place: undo `_fold`, and drop what it filled in."""
    rank = len(out)
    whole = [P * m for P, m in zip(maps.shape, maps.shape[rank:], strict=False)][:rank]
    order = [axis for i in range(rank) for axis in (rank + i, i)]
    maps = maps.transpose(*order, *range(2 * rank, maps.ndim))
    maps = maps.reshape(*whole, *maps.shape[2 * rank :])
    return maps[tuple(slice(n) for n in out)]


def conv_local(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*out_and_window c_in_per_group c_out"],
    bias: Float[Array, "*out_or_none c_out"] | None = None,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
    groups: int = 1,
) -> Float[Array, "batch *out c_out"]:
    """Look through windows as `conv` does, with a kernel of its own at every output position.

    Kernel `(*out_spatial, *window, c_in / groups, c_out)`, bias `(c_out,)` or
    `(*out_spatial, c_out)`: the tiled convolution whose period is the whole output.
    Raises `InputError` as `conv` does, and where the kernel's positions are not the output's.
    """
    x, kernel = floats(x=x, kernel=kernel)
    rank = x.ndim - 2
    check_kernel(x.shape, kernel.shape, groups, positions=rank)
    at = window_spec(x.shape[1:-1], kernel.shape[rank:-2], strides, padding, dilation)
    if kernel.shape[:rank] != at.out:
        raise InputError(
            f"kernel {kernel.shape} has positions {kernel.shape[:rank]} but the output has "
            f"{at.out}: the kernel is (*out_spatial, *window, c_in / groups, c_out)"
        )
    padded = pad(x, at.pairs, padding_mode)
    at = at._replace(size=padded.shape[1:-1], pairs=((0, 0),) * rank)
    definition = partial(conv_tiled, strides=at.strides, dilation=at.dilation, groups=groups)
    on_cpu = cpu.conv_local_on_cpu(padded, kernel, at, groups)
    y = cpu.compute(definition, on_cpu, padded, kernel)
    return y if bias is None else y + spread_bias(bias, y.shape[1:])[None]
