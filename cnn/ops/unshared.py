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

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.errors import InputError
from cnn.ops.border import PaddingMode, pad
from cnn.ops.checks import add_bias, check_kernel, check_map, floats
from cnn.ops.window import Padding, Placement, Size, place


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
    at = place(x.shape[1:-1], window, strides, padding, dilation)
    views = jnp.stack(taps(pad(x, at.pairs, padding_mode), at), axis=x.ndim - 1)
    return views.reshape(x.shape[0], *at.out, *at.window, x.shape[-1])


def taps(
    padded: Float[Array, "batch *padded c"], at: Placement
) -> list[Float[Array, "batch *out c"]]:
    """Return, for each tap a of the window in order, the map of what it sees: a strided slice."""
    views = []
    for a in itertools.product(*map(range, at.window)):
        first = [r * i for r, i in zip(at.dilation, a, strict=True)]
        end = [f + (n - 1) * s + 1 for f, n, s in zip(first, at.out, at.strides, strict=True)]
        views.append(
            lax.slice(
                padded,
                (0, *first, 0),
                (padded.shape[0], *end, padded.shape[-1]),
                (1, *at.strides, 1),
            )
        )
    return views


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
    at = place(x.shape[1:-1], window, strides, padding, dilation)
    for axis, (P, n) in enumerate(zip(period, at.out, strict=True), 1):
        if not 1 <= P <= n:
            raise InputError(
                f"period {P} is not between 1 and output size {n} on axis {axis}: "
                "the kernel is (*period, *window, c_in / groups, c_out)"
            )
    seen = jnp.stack(taps(pad(x, at.pairs, padding_mode), at), axis=-2)
    folded, repeats = _fold(seen, period)
    k, c_out = math.prod(window), kernel.shape[-1]
    y = jnp.einsum(  # phase p, repetition n, tap k, group g, channel i to channel o
        "pnkgi,pkigo->pngo",
        folded.reshape(*folded.shape[:2], k, groups, -1),
        kernel.reshape(-1, k, kernel.shape[-2], groups, c_out // groups),
    )
    y = y.reshape(len(y), -1, c_out)
    if bias is not None and bias.shape == (*period, c_out):
        y, bias = y + bias.reshape(-1, 1, c_out), None
    return add_bias(_unfold(y, period, repeats, at.out), bias)


def _fold(
    seen: Float[Array, "batch *out k c"], period: tuple[int, ...]
) -> tuple[Float[Array, "phases n k c"], tuple[int, ...]]:
    """Gather the positions that share a kernel: p = repetition · period + phase, phases first.

    Where the period does not divide the output, zeros fill the last repetition.
    """
    batch, *out, k, c = seen.shape
    rank = len(period)
    repeats = tuple(-(-n // P) for n, P in zip(out, period, strict=True))
    missing = [(0, m * P - n) for n, m, P in zip(out, repeats, period, strict=True)]
    seen = jnp.pad(seen, ((0, 0), *missing, (0, 0), (0, 0)))
    split = [size for both in zip(repeats, period, strict=True) for size in both]
    seen = seen.reshape(batch, *split, k, c)
    phases, turns = range(2, 2 * rank + 1, 2), range(1, 2 * rank, 2)
    seen = seen.transpose(*phases, 0, *turns, 2 * rank + 1, 2 * rank + 2)
    return seen.reshape(math.prod(period), -1, k, c), repeats


def _unfold(
    y: Float[Array, "phases n c"],
    period: tuple[int, ...],
    repeats: tuple[int, ...],
    out: tuple[int, ...],
) -> Float[Array, "batch *out c"]:
    """Put every position back in its place: the inverse of `_fold`, less what it filled in."""
    rank, c = len(period), y.shape[-1]
    y = y.reshape(*period, -1, *repeats, c)
    order = [axis for i in range(rank) for axis in (rank + 1 + i, i)]
    y = y.transpose(rank, *order, 2 * rank + 1)
    whole = [m * P for m, P in zip(repeats, period, strict=True)]
    y = y.reshape(-1, *whole, c)
    return y[:, *(slice(n) for n in out)]


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
    rank = x.ndim - 2
    check_kernel(x.shape, kernel.shape, groups, positions=rank)
    at = place(x.shape[1:-1], kernel.shape[rank:-2], strides, padding, dilation)
    if kernel.shape[:rank] != at.out:
        raise InputError(
            f"kernel {kernel.shape} has positions {kernel.shape[:rank]} but the output has "
            f"{at.out}: the kernel is (*out_spatial, *window, c_in / groups, c_out)"
        )
    return conv_tiled(
        x,
        kernel,
        bias,
        strides=strides,
        padding=padding,
        padding_mode=padding_mode,
        dilation=dilation,
        groups=groups,
    )


def dense_spatial(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*in_and_out c_out"],
    bias: Float[Array, "*out_or_none c_out"] | None = None,
) -> Float[Array, "batch *out c_out"]:
    """Let every output position see every input position: y_p = bias_p + Σ_i x_i · kernel[i, p].

    Kernel `(*in_spatial, c_in, *out_spatial, c_out)`, bias `(c_out,)` or `(*out_spatial, c_out)`.
    Raises `InputError` if the kernel does not begin as an image of `x`.
    """
    x, kernel = floats(x=x, kernel=kernel)
    check_map(x.shape)
    image = x.shape[1:]
    if kernel.ndim != 2 * len(image) or kernel.shape[: len(image)] != image:
        raise InputError(
            f"kernel has shape {kernel.shape} but x {x.shape} needs {2 * len(image)} axes, "
            "(*in_spatial, c_in, *out_spatial, c_out)"
        )
    y = jnp.tensordot(x, kernel, len(image))
    return add_bias(y, bias, unshared=y.shape[1:])
