"""The maps that the taps of a window see, and padding by any value."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.window import Pairs, Placement


def taps(padded: Array, at: Placement, first_axis: int = 1) -> list[Array]:
    """Return, for each tap of the window in order, the map of what it sees: a strided slice.

    `padded` is what `at` stands on, padding included; its spatial axes begin at `first_axis`.
    """
    maps = []
    for a in itertools.product(*map(range, at.window)):
        seen = padded
        for axis, (i, r, s, n) in enumerate(zip(a, at.dilation, at.strides, at.out, strict=True)):
            seen = lax.slice_in_dim(seen, r * i, r * i + (n - 1) * s + 1, s, first_axis + axis)
        maps.append(seen)
    return maps


def pad_with(
    value: float, x: Float[Array, "batch *spatial c"], pairs: Pairs
) -> Float[Array, "batch *padded c"]:
    """Add `pairs` of cells of one value to the spatial axes of `x`; negative ones take away."""
    if not any(map(any, pairs)):
        return x
    around = [(0, 0, 0), *((lo, hi, 0) for lo, hi in pairs), (0, 0, 0)]
    return lax.pad(x, jnp.array(value, x.dtype), around)
