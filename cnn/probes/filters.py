"""The weights of any rung of the ladder in one shape: a filter per position, aligned by offset.

Locality is a statement about how large the weights are at which offset, sharing about how alike the
filters of different positions are. Both can be asked of every rung once its kernel is written as

    w[p, δ]    p the positions that have filters of their own, δ the offset of an input from
               the centre of the window at p

For windowed layers this is the kernel as it stands. For `DenseSpatial`, W[i, p] is moved to
δ = i − s·p + lo − (d − 1) / 2 (stride s, padding lo, window span d): every filter sees the input
through another part of one large window, and has no weights in the rest of it.
"""

from __future__ import annotations

import itertools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers import ConvBase, ConvLocal, ConvTiled, DenseSpatial


class Filters(NamedTuple):
    """Filters with their taps and positions in row-major order; `rank` is that of the maps."""

    weights: Float[Array, "positions taps c_in c_out"]
    seen: Bool[np.ndarray, "positions taps"]
    """Where there is a weight; elsewhere `weights` is zero."""
    offsets: Float[np.ndarray, "taps rank"]
    """From the centre of the window, in input positions."""
    positions: Float[np.ndarray, "positions rank"]
    """In output positions; for a tiled layer, the phases."""


def filters(kernel: Float[Array, "..."], layer: ConvBase) -> Filters:
    """Return the `kernel` of `layer` as filters, one per position that has its own.

    Weights of a `DenseSpatial` beyond its radius are not seen; with `padding_mode` "circular" its
    offsets go around. Raises `InputError` if the kernel is none of that layer.
    """
    unshared = isinstance(layer, ConvTiled | ConvLocal | DenseSpatial)
    rank, odd = divmod(kernel.ndim - 2, 1 + unshared)
    if rank < 1 or odd:
        kind = type(layer).__name__
        raise InputError(f"kernel has shape {kernel.shape} but that is none of a {kind}")
    if isinstance(layer, DenseSpatial):
        return _dense(kernel, layer, rank)
    window = ops.per_axis(layer.window, rank, "window")
    if kernel.shape[-rank - 2 : -2] != window:
        raise InputError(f"kernel has shape {kernel.shape} but the layer's window is {window}")
    dilation = ops.per_axis(layer.dilation, rank, "dilation")
    offsets = [r * (np.arange(k) - (k - 1) / 2) for k, r in zip(window, dilation, strict=True)]
    positions = _grid([np.arange(n) for n in kernel.shape[: -rank - 2]])
    weights = kernel.reshape(len(positions), -1, *kernel.shape[-2:])
    return Filters(weights, np.ones(weights.shape[:2], bool), _grid(offsets), positions)


def _dense(kernel: Array, layer: DenseSpatial, rank: int) -> Filters:
    at = ops.window_spec(
        kernel.shape[:rank], layer.window, layer.strides, layer.padding, layer.dilation
    )
    if kernel.shape[rank + 1 : -1] != at.out:
        raise InputError(
            f"kernel has shape {kernel.shape} but on a map of {at.size} the layer's output has "
            f"positions {at.out}"
        )
    circular = layer.padding_mode == "circular"
    limits = ops.within(at, layer.radius, layer.padding_mode)
    inputs, outputs, seen, offsets = [], [], np.ones((1,) * 2 * rank, bool), []
    for axis, (n, k, s, (lo, _), r, out) in enumerate(zip(*at, at.out, strict=True)):
        first = 0 if circular else -s * (out - 1)  # the lowest i − s·p
        steps = np.arange(first, n)
        p = np.arange(out)[:, None]
        i = p * s + steps
        there = circular | (i >= 0) & (i < n)
        i %= n
        from_centre = steps + lo - r * (k - 1) / 2
        offsets.append((from_centre + n / 2) % n - n / 2 if circular else from_centre)
        apart = [d for d in range(2 * rank) if d not in (axis, rank + axis)]
        inputs.append(np.expand_dims(i, apart))
        outputs.append(np.expand_dims(p, apart))
        seen = seen & np.expand_dims(there & limits[axis][i, p], apart)
    weights = kernel[(*inputs, slice(None), *outputs)]  # (*out, *steps, c_in, c_out)
    weights = jnp.where(seen[..., None, None], weights, 0)
    return Filters(
        weights.reshape(math.prod(at.out), -1, *weights.shape[-2:]),
        seen.reshape(math.prod(at.out), -1),
        _grid(offsets),
        _grid([np.arange(out) for out in at.out]),
    )


def _grid(axes: list[np.ndarray]) -> np.ndarray:
    """Return the points of the grid over `axes` in row-major order, `(points, len(axes))`."""
    return np.array([*itertools.product(*axes)], float)
