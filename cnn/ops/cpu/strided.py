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
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.cost import Nanoseconds, Shape
from cnn.ops.cpu.no_fusion import no_fusion
from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec

MAX_TAPS = 1024
"""The largest window. What convolves over blocks may take a slice for each of its taps."""
MAX_STRIDE = 128
"""The largest stride: a slice is taken for each position of a block, on all axes but the last."""


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
    axes = zip(spec.size, spec.pairs, sizes, strict=True)
    ends = tuple((lo, m - n - lo) for n, (lo, _), m in axes)

    @no_fusion  # XLA would compute what precedes once more for every number that it copies
    def rearrange(x: Array) -> Array:
        return _to_depth(pad_constant(0.0, x, ends), strides)

    x = rearrange(x)
    more = [(0, k - n) for k, n in zip(taps, spec.window, strict=True)]
    kernel = kernel.reshape(-1, *spec.window, math.prod(channels))
    kernel = _to_depth(jnp.pad(kernel, [(0, 0), *more, (0, 0)]), strides)
    kernel = kernel.reshape(*positions, *over_blocks.window, x.shape[-1], channels[1])
    return convolve(x, kernel, over_blocks)


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether there are strides, none of them long, no dilation and few taps."""
    few = math.prod(spec.window) <= MAX_TAPS
    return 1 < max(spec.strides) <= MAX_STRIDE and set(spec.dilation) == {1} and few


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


def _to_depth(
    x: Float[Array, "batch *spatial c"], strides: Sequence[int]
) -> Float[Array, "batch *blocks depth"]:
    """Move the positions of every block to the channels, those of the first axis outermost.

    On the last axis they are next to each other already. On the others slices are joined, which XLA
    copies row by row, and a transpose number by number.
    """
    *before, n, c = x.shape
    x = x.reshape(*before, n // strides[-1], strides[-1] * c)
    for axis in range(len(strides) - 1, 0, -1):
        s = strides[axis - 1]
        x = x.reshape(*x.shape[:axis], x.shape[axis] // s, s, *x.shape[axis + 1 :])
        parts = [lax.index_in_dim(x, i, axis + 1, keepdims=False) for i in range(s)]
        x = lax.concatenate(parts, parts[0].ndim - 1)
    return x
