"""The kernel of any layer as filters, one per output position, aligned by offset.

Locality is how large the weights are at each offset, sharing how similar the filters of different
positions are. Both are defined for every layer once its kernel is written as

    w[p, δ]    p an output position with a filter of its own,
               δ the offset of an input from the centre of the window at p

A windowed kernel has this form already. In a `DenseSpatial` kernel, W[i, p] is moved to
δ = i − s·p + lo − (d − 1) / 2 (stride s, padding lo, dilated window d). Each filter then covers
another part of one large window, and has no weights in the rest of it.
"""

import itertools
import math
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers import (
    ConvBase,
    ConvGroup,
    ConvLocal,
    ConvTiled,
    DenseSpatial,
    PositionalAttention,
    TokenMixing,
)


class Filters(NamedTuple):
    """Filters with their offsets and positions in row-major order, over `rank` spatial axes."""

    weights: Float[Array, "positions offsets c_in c_out"]
    mask: Bool[np.ndarray, "positions offsets"]
    """Where there is a weight; elsewhere `weights` is zero."""
    offsets: Float[np.ndarray, "offsets rank"]
    """From the centre of the window, in input positions."""
    positions: Float[np.ndarray, "positions rank"]
    """Output positions; for a tiled layer, modulo its period."""


def filters(kernel: Array, layer: ConvBase) -> Filters:
    """Return the `kernel` of `layer` as filters, one per position that has its own.

    The mask excludes weights of a `DenseSpatial` beyond its radius. With `padding_mode` "circular"
    its offsets wrap around. A group convolution has the filters of all transformations.
    """
    if isinstance(layer, PositionalAttention):
        raise InputError("kernel of PositionalAttention has no fixed offsets: its heads move")
    if isinstance(layer, ConvGroup):
        kernel = ops.group_kernel(kernel, layer.group)
    if isinstance(layer, TokenMixing):  # a dense layer of one channel
        kernel = jnp.expand_dims(kernel, (kernel.ndim // 2, -1))
        layer = DenseSpatial(1, layer.window, layer.strides, layer.padding, dilation=layer.dilation)
    unshared = isinstance(layer, ConvTiled | ConvLocal | DenseSpatial)
    rank, odd = divmod(kernel.ndim - 2, 1 + unshared)
    if rank < 1 or odd:
        kind = type(layer).__name__
        raise InputError(f"kernel of shape {kernel.shape} has the wrong number of axes for {kind}")
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
    size = kernel.shape[:rank]
    spec = ops.window_spec(size, layer.window, layer.strides, layer.padding, layer.dilation)
    if kernel.shape[rank + 1 : -1] != spec.out:
        shape = kernel.shape
        raise InputError(f"kernel has shape {shape} but on size {size} the output is {spec.out}")
    circular = layer.padding_mode == "circular"
    limits = ops.radius_masks(spec, layer.radius, layer.padding_mode)
    inputs, outputs, mask, offsets = [], [], np.ones((1,) * 2 * rank, bool), []
    for axis, (n, k, s, (lo, _), r, out) in enumerate(zip(*spec, spec.out, strict=True)):
        first = 0 if circular else -s * (out - 1)  # the lowest i − s·p
        steps = np.arange(first, n)
        p = np.arange(out)[:, None]
        i = p * s + steps
        inside = circular | (i >= 0) & (i < n)
        i %= n
        offset = steps + lo - r * (k - 1) / 2
        offsets.append((offset + n / 2) % n - n / 2 if circular else offset)
        others = [d for d in range(2 * rank) if d not in (axis, rank + axis)]
        inputs.append(np.expand_dims(i, others))
        outputs.append(np.expand_dims(p, others))
        mask = mask & np.expand_dims(inside & limits[axis][i, p], others)
    weights = kernel[(*inputs, slice(None), *outputs)]  # (*out, *steps, c_in, c_out)
    weights = jnp.where(mask[..., None, None], weights, 0)
    return Filters(
        weights.reshape(math.prod(spec.out), -1, *weights.shape[-2:]),
        mask.reshape(math.prod(spec.out), -1),
        _grid(offsets),
        _grid([np.arange(out) for out in spec.out]),
    )


def _grid(axes: list[np.ndarray]) -> np.ndarray:
    """Return the points of the grid over `axes` in row-major order, `(points, len(axes))`."""
    return np.array([*itertools.product(*axes)], float)
