"""Convolution whose kernel depends on the position: tiled and locally connected.

    y[b, p, o] = bias + Σ_a Σ_c x[b, s·p + r·a − lo, c] · kernel[p mod P, a, c, o]

The period P sets the degree of weight sharing. P = 1 is `conv`, a larger P the tiled convolution
(Le et al. 2010), and P equal to the output size the locally connected layer (LeCun 1989). Without
the window it is the dense layer between maps (Zhang et al., Dive into Deep Learning, eq. 7.1.1).
"""

import itertools
import math
from functools import partial
from typing import Unpack

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.checks import add_bias, check_bias, promote_floats
from cnn.ops.conv import conv
from cnn.ops.implementations import compute
from cnn.ops.options import ConvOptions, conv_spec
from cnn.ops.padding import pad
from cnn.ops.patches import MAX_TAPS, windows
from cnn.ops.window import WindowSpec


def conv_tiled(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*period_and_window c_in_per_group c_out"],
    bias: Float[Array, "*period_or_none c_out"] | None = None,
    **options: Unpack[ConvOptions],
) -> Float[Array, "batch *out c_out"]:
    """Return the tiled convolution: output position p uses `kernel[p mod period]`.

    The kernel is `(*period, *window, c_in / groups, c_out)`, the bias `(c_out,)` or `(*period,
    c_out)`. A period is at most the output size, and need not divide it. Options are as in `conv`.
    """
    x, kernel = promote_floats(x=x, kernel=kernel)
    rank = x.ndim - 2
    spec, padding_mode, groups = conv_spec(x.shape, kernel.shape, rank, **options)
    period = kernel.shape[:rank]
    for axis, (P, n) in enumerate(zip(period, spec.out, strict=True), 1):
        if not 1 <= P <= n:
            raise InputError(
                f"period must be from 1 to the output size {n} on axis {axis}, got {P}: "
                "the kernel is (*period, *window, c_in / groups, c_out)"
            )
    padded = pad(x, spec.pairs, padding_mode)
    few_phases = math.prod(period) <= MAX_TAPS < math.prod(spec.window)
    convolve = _by_phases if few_phases else _by_matmul
    y = convolve(padded, kernel, spec, period, groups)
    if bias is not None:
        shape = (*period, kernel.shape[-1])
        check_bias(bias, shape)
        bias = jnp.broadcast_to(bias, shape)
        y = y + jnp.expand_dims(bias, tuple(range(rank, 2 * rank + 1)))
    return jnp.moveaxis(_unfold(y, spec.out), rank, 0)


def _by_matmul(
    padded: Array, kernel: Array, spec: WindowSpec, period: tuple[int, ...], groups: int
) -> Float[Array, "*period_and_repetitions batch c_out"]:
    """Convolve with one matrix product per phase and group."""
    rank = len(period)
    seen = _fold(jnp.moveaxis(windows(padded, spec), 0, rank), period)
    phases, k, (i, c_out) = math.prod(period), math.prod(spec.window), kernel.shape[-2:]
    others = math.prod(seen.shape[len(period) : -2])  # repetitions and the batch
    rows = jnp.moveaxis(seen.reshape(phases, others, k, groups, i), -2, 1)
    columns = jnp.moveaxis(kernel.reshape(phases, k * i, groups, -1), -2, 1)
    y = rows.reshape(phases, groups, others, k * i) @ columns
    return jnp.moveaxis(y, 1, 2).reshape(*seen.shape[:-2], c_out)


def _by_phases(
    padded: Array, kernel: Array, spec: WindowSpec, period: tuple[int, ...], groups: int
) -> Float[Array, "*period_and_repetitions batch c_out"]:
    """Convolve once per phase: phase q starts at q strides and has P times the stride."""
    repetitions = [-(-n // P) for n, P in zip(spec.out, period, strict=True)]
    strides = [s * P for s, P in zip(spec.strides, period, strict=True)]
    maps = []
    for q in itertools.product(*map(range, period)):
        start = [slice(i * s, None) for i, s in zip(q, spec.strides, strict=True)]
        phase = padded[(slice(None), *start)]
        y = conv(phase, kernel[q], strides=strides, dilation=spec.dilation, groups=groups)
        missing = [(0, m - n) for m, n in zip(repetitions, y.shape[1:-1], strict=True)]
        maps.append(jnp.moveaxis(jnp.pad(y, ((0, 0), *missing, (0, 0))), 0, -2))
    return jnp.stack(maps).reshape(*period, *maps[0].shape)


def _fold(maps: Float[Array, "*out_and_rest"], period: tuple[int, ...]) -> Array:
    """Return `(*out, ...)` as `(*period, *repetitions, ...)`: p = repetition · period + phase.

    Where the period does not divide the output, zeros fill the last repetition.
    """
    rank, rest = len(period), maps.shape[len(period) :]
    repetitions = [-(-n // P) for n, P in zip(maps.shape, period, strict=False)]
    for axis, (m, P) in enumerate(zip(repetitions, period, strict=True)):
        if missing := m * P - maps.shape[axis]:
            shape = (*maps.shape[:axis], missing, *maps.shape[axis + 1 :])
            maps = jnp.concatenate([maps, jnp.zeros(shape, maps.dtype)], axis)
    maps = maps.reshape(*(n for both in zip(repetitions, period, strict=True) for n in both), *rest)
    return maps.transpose(
        *range(1, 2 * rank, 2), *range(0, 2 * rank, 2), *range(2 * rank, maps.ndim)
    )


def _unfold(maps: Array, out: tuple[int, ...]) -> Float[Array, "*out_and_rest"]:
    """Undo `_fold`, and remove the zeros that it added."""
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
    **options: Unpack[ConvOptions],
) -> Float[Array, "batch *out c_out"]:
    """Return the locally connected layer: `conv` with a separate kernel at every output position.

    The kernel is `(*out_spatial, *window, c_in / groups, c_out)`, the bias `(c_out,)` or
    `(*out_spatial, c_out)`: the tiled convolution with a period of the whole output.
    """
    x, kernel = promote_floats(x=x, kernel=kernel)
    rank = x.ndim - 2
    spec, padding_mode, groups = conv_spec(x.shape, kernel.shape, rank, **options)
    if kernel.shape[:rank] != spec.out:
        raise InputError(
            f"kernel must start with the output positions {spec.out}, got shape {kernel.shape}: "
            "the kernel is (*out_spatial, *window, c_in / groups, c_out)"
        )
    padded, spec = pad(x, spec.pairs, padding_mode), spec.on_padded
    definition = partial(conv_tiled, strides=spec.strides, dilation=spec.dilation, groups=groups)
    y = compute("conv_local", definition, padded, kernel, spec=spec)
    return add_bias(y, bias, spec.out)
