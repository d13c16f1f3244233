"""Strided convolution as one of stride 1 over blocks of positions ("space to depth").

The taps a = s·q + r of a window, 0 ≤ r < s, are tap q of a window over blocks of s positions, whose
channels are those of all positions of the block. On each axis

    y[b, p, o] = Σ_(q, r, c) X[b, p + q, (r, c)] · W[q, (r, c), o]
    X[b, j, (r, c)] = x[b, s·j + r − lo, c],    W[q, (r, c), o] = w[s·q + r, c, o]

with zeros for taps outside the window. A kernel may have the output positions in front, `w[p, a]`.
"""

import math
from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.cpu.cost import Nanoseconds, Shape
from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec

MAX_TAPS = 1024
"""The largest window. What convolves over blocks may take a slice for each of its taps."""


def strided(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*out_and_window c_in c_out"],
    spec: WindowSpec,
    convolve: Callable[[Array, Array, WindowSpec], Array],
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group, without dilation; `convolve` does with stride 1."""
    rank, strides = len(spec.window), spec.strides
    positions, channels = kernel.shape[: -rank - 2], kernel.shape[-2:]
    over_blocks = _over_blocks(spec)
    taps, sizes = (
        [q * s for q, s in zip(blocks, strides, strict=True)]
        for blocks in (over_blocks.window, over_blocks.size)
    )
    ends = zip(spec.size, spec.pairs, sizes, strict=True)
    x = pad_constant(0.0, x, tuple((lo, m - n - lo) for n, (lo, _), m in ends))
    more = [(0, k - n) for k, n in zip(taps, spec.window, strict=True)]
    kernel = kernel.reshape(-1, *spec.window, *channels)
    kernel = jnp.pad(kernel, [(0, 0), *more, (0, 0), (0, 0)])
    x = _to_depth(x, strides).reshape(len(x), *over_blocks.size, -1)
    kernel = _to_depth(kernel, strides)
    kernel = kernel.reshape(*positions, *over_blocks.window, x.shape[-1], channels[1])
    return convolve(x, kernel, over_blocks)


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether there are strides, no dilation and few taps."""
    few = math.prod(spec.window) <= MAX_TAPS
    return max(spec.strides) > 1 and set(spec.dilation) == {1} and few


def cost(
    x: Shape,
    kernel: Shape,
    spec: WindowSpec,
    ns: Nanoseconds,
    convolve: Callable[[Shape, Shape, WindowSpec, Nanoseconds], float],
) -> float:
    """Return the time to rearrange the input, and that of `convolve` over the blocks."""
    over_blocks = _over_blocks(spec)
    channels = kernel[-2] * math.prod(spec.strides)
    blocks = (x[0], *over_blocks.size, channels)
    taps = (*over_blocks.window, channels, kernel[-1])
    return math.prod(blocks) * ns.moved + convolve(blocks, taps, over_blocks, ns)


def blocks_of(spec: WindowSpec) -> tuple[int, ...]:
    """Return how many blocks of `strides` positions a window covers, per axis."""
    return tuple(-(-k // s) for k, s in zip(spec.window, spec.strides, strict=True))


def _over_blocks(spec: WindowSpec) -> WindowSpec:
    """Return the windows over blocks of `strides` positions."""
    blocks, rank = blocks_of(spec), len(spec.window)
    return WindowSpec(
        size=tuple(p + q - 1 for p, q in zip(spec.out, blocks, strict=True)),
        window=blocks,
        strides=(1,) * rank,
        pairs=((0, 0),) * rank,
        dilation=(1,) * rank,
    )


def _to_depth(x: Array, strides: Sequence[int]) -> Array:
    """Return `(batch, *spatial, *rest)` as `(batch, *blocks, *strides, *rest)`."""
    rank = len(strides)
    cut = [m for n, s in zip(x.shape[1:], strides, strict=False) for m in (n // s, s)]
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2)]
    x = x.reshape(len(x), *cut, *x.shape[1 + rank :])
    return x.transpose(*order, *range(2 * rank + 1, x.ndim))
