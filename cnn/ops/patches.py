"""The input values that each window covers."""

import itertools
import math

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.checks import check_input, promote_floats
from cnn.ops.padding import PaddingMode, pad
from cnn.ops.window import Padding, Size, WindowSpec, window_spec

MAX_TAPS = 256
"""The largest window that is computed with one slice per tap; more take too long to compile."""


def patches(
    x: Float[Array, "batch *spatial c"],
    window: Size,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
) -> Float[Array, "batch *out_and_window c"]:
    """Return the inputs of each output position: x[b, s·p + r·a − lo, c]."""
    (x,) = promote_floats(x=x)
    check_input(x.shape)
    spec = window_spec(x.shape[1:-1], window, strides, padding, dilation)
    seen = windows(pad(x, spec.pairs, padding_mode), spec)
    return seen.reshape(x.shape[0], *spec.out, *spec.window, x.shape[-1])


def windows(padded: Array, spec: WindowSpec) -> Float[Array, "batch *out taps c"]:
    """Return the inputs of each output position, the taps in row-major order."""
    rank, taps = len(spec.window), math.prod(spec.window)
    if taps <= MAX_TAPS:
        return jnp.stack(shifted_views(padded, spec), axis=rank + 1)
    for axis, (k, s, r, n) in enumerate(
        zip(spec.window, spec.strides, spec.dilation, spec.out, strict=True)
    ):
        positions = jnp.arange(n)[:, None] * s + jnp.arange(k)[None] * r
        padded = jnp.moveaxis(jnp.take(padded, positions, 1 + axis), axis + 2, rank + 1 + axis)
    return padded.reshape(len(padded), *spec.out, taps, padded.shape[-1])


def shifted_views(padded: Array, spec: WindowSpec, first_axis: int = 1) -> list[Array]:
    """Return one strided slice for each tap, in row-major order: its input at every output.

    `padded` includes the padding of `spec`, and its spatial axes start at `first_axis`.
    """
    taps = itertools.product(*map(range, spec.window))
    return [shifted_view(padded, spec, tap, first_axis) for tap in taps]


def shifted_view(
    padded: Array, spec: WindowSpec, tap: tuple[int, ...], first_axis: int = 1
) -> Array:
    """Return the input of one tap, an int per axis, at every output (see `shifted_views`)."""
    for axis, (i, r, s, n) in enumerate(
        zip(tap, spec.dilation, spec.strides, spec.out, strict=True), first_axis
    ):
        padded = lax.slice_in_dim(padded, r * i, r * i + (n - 1) * s + 1, s, axis)
    return padded
