"""The maps that the taps of a window see, padding by any value, and windows seen from the input."""

from __future__ import annotations

import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.window import Pairs, WindowSpec, dilated


def taps(padded: Array, at: WindowSpec, first_axis: int = 1) -> list[Array]:
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


def spread_out(
    value: float, g: Float[Array, "batch *out c"], at: WindowSpec
) -> tuple[Float[Array, "batch *spread c"], WindowSpec]:
    """Spread outputs to where their windows begin, and place the windows of inputs on that.

    At input i, tap a sees the output in whose window i is tap k − 1 − a, or `value` if there is
    none: position i + lo − r·(k − 1 − a) of g⁺, where g⁺[s·p] = g[p].
    """
    spans = dilated(at.window, at.dilation)
    ends = [
        (d - 1 - lo, n - 1 + lo - (m - 1) * s, s - 1)
        for n, m, d, s, (lo, _) in zip(at.size, at.out, spans, at.strides, at.pairs, strict=True)
    ]
    spread = lax.pad(g, jnp.array(value, g.dtype), [(0, 0, 0), *ends, (0, 0, 0)])
    ones = (1,) * len(spans)
    over = WindowSpec(spread.shape[1:-1], at.window, ones, ((0, 0),) * len(spans), at.dilation)
    return spread, over
