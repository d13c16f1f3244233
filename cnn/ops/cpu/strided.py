"""Strided convolution as one of stride 1 over blocks of positions ("space to depth").

The taps a = s·q + r of a window, 0 ≤ r < s, are tap q of a window over blocks of s positions, whose
channels are those of all positions of the block. On each axis

    y[b, p, o] = Σ_(q, r, c) X[b, p + q, (r, c)] · W[q, (r, c), o]
    X[b, j, (r, c)] = x[b, s·j + r − lo, c],    W[q, (r, c), o] = w[s·q + r, c, o]

with zeros for taps outside the window. A kernel may have the output positions in front, `w[p, a]`.
"""

from collections.abc import Callable, Sequence

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec


def strided(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*out_and_window c_in c_out"],
    spec: WindowSpec,
    convolve: Callable[[Array, Array, WindowSpec], Array],
) -> Float[Array, "batch *out c_out"]:
    """Convolve in one group, without dilation; `convolve` does with stride 1."""
    rank, strides = len(spec.window), spec.strides
    positions, channels = kernel.shape[: -rank - 2], kernel.shape[-2:]
    blocks = blocks_of(spec)
    taps = [q * s for q, s in zip(blocks, strides, strict=True)]
    sizes = [(p - 1) * s + k for p, s, k in zip(spec.out, strides, taps, strict=True)]
    ends = zip(spec.size, spec.pairs, sizes, strict=True)
    x = pad_constant(0.0, x, tuple((lo, m - n - lo) for n, (lo, _), m in ends))
    more = [(0, k - n) for k, n in zip(taps, spec.window, strict=True)]
    kernel = kernel.reshape(-1, *spec.window, *channels)
    kernel = jnp.pad(kernel, [(0, 0), *more, (0, 0), (0, 0)])
    over_blocks = WindowSpec(
        size=tuple(m // s for m, s in zip(sizes, strides, strict=True)),
        window=blocks,
        strides=(1,) * rank,
        pairs=((0, 0),) * rank,
        dilation=(1,) * rank,
    )
    x = _to_depth(x, strides).reshape(len(x), *over_blocks.size, -1)
    kernel = _to_depth(kernel, strides).reshape(*positions, *blocks, x.shape[-1], channels[1])
    return convolve(x, kernel, over_blocks)


def blocks_of(spec: WindowSpec) -> tuple[int, ...]:
    """Return how many blocks of `strides` positions a window covers, per axis."""
    return tuple(-(-k // s) for k, s in zip(spec.window, spec.strides, strict=True))


def _to_depth(x: Array, strides: Sequence[int]) -> Array:
    """Return `(batch, *spatial, *rest)` as `(batch, *blocks, *strides, *rest)`."""
    rank = len(strides)
    cut = [m for n, s in zip(x.shape[1:], strides, strict=False) for m in (n // s, s)]
    order = [0, *range(1, 2 * rank, 2), *range(2, 2 * rank + 1, 2)]
    x = x.reshape(len(x), *cut, *x.shape[1 + rank :])
    return x.transpose(*order, *range(2 * rank + 1, x.ndim))
