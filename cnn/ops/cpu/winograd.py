"""3×3 convolution with a quarter of the multiplications: F(4×4, 3×3) of Lavin & Gray (2016).

A tile of 4×4 outputs sees 6×6 inputs d. For each of the 36 elements of the transformed tiles, the
sum over channels is a product of two matrices, all tiles of all examples in the rows:

    Y = Aᵀ [Σ_c (G w_c Gᵀ) ⊙ (Bᵀ d_c B)] A
    w̄_c = Gᵀ [Σ_tiles (Bᵀ d_c B) ⊙ (A Ȳ Aᵀ)] G

and x̄ is the convolution of ȳ with the kernel turned by half a circle. Exact but for rounding, which
is some ten times that of the definition.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.bilinear import bilinear
from cnn.ops.cpu.no_fusion import apart
from cnn.ops.cpu.patches import pad_with
from cnn.ops.window import Pairs, WindowSpec

B = np.array(
    [
        [4, 0, 0, 0, 0, 0],
        [0, -4, 4, -2, 2, 4],
        [-5, -4, -4, -1, -1, 0],
        [0, 1, -1, 2, -2, -5],
        [1, 1, 1, 1, 1, 0],
        [0, 0, 0, 0, 0, 1],
    ]
)
G = np.array([[6, 0, 0], [-4, -4, -4], [-4, 4, -4], [1, 2, 4], [1, -2, 4], [0, 0, 24]]) / 24
A = np.array(
    [[1, 0, 0, 0], [1, 1, 1, 1], [1, -1, 1, -1], [1, 2, 4, 8], [1, -2, 4, -8], [0, 0, 0, 1]]
)

MOST_BYTES = 2**28
"""Of transformed tiles at a time; examples beyond that wait for the next turn."""
MOST_KEPT = 5 * 2**23
"""Of transformed tiles that are kept for the kernel's gradient; beyond that it takes turns, in
which they are made anew."""


def winograd(
    x: Float[Array, "batch height width c_in"],
    kernel: Float[Array, "3 3 c_in c_out"],
    at: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group."""

    def convolve(x: Array, w: Array, products: Callable[..., Array], pairs: Pairs) -> Array:
        out = tuple(n + lo + hi - 2 for n, (lo, hi) in zip(x.shape[1:-1], pairs, strict=True))

        def some(x: Array) -> Array:
            tiles = products(_flat(_seen(x, pairs, out)), w)
            y = _outputs(tiles.reshape(6, 6, len(x), *map(_tiles, out), -1))
            return y[:, : out[0], : out[1]]

        return _by_turns(some, x, channels=max(kernel.shape[2:]), most=MOST_BYTES)

    def grad_x(g: Array, w: Array) -> Array:
        pairs = tuple((2 - lo, 2 - hi) for lo, hi in at.pairs)
        return convolve(g, w, _products_turned, pairs)

    def grad_w(x: Array, g: Array) -> Array:
        def some(x: Array, g: Array) -> Array:
            spread = _spread(pad_with(0.0, g, tuple((0, -n % 4) for n in at.out)))
            seen = _flat(_seen(x, at.pairs, at.out))
            return lax.dot_general(seen, _flat(spread), (((1,), (1,)), ((0,), (0,))))[None]

        sums = _by_turns(some, x, g, channels=max(kernel.shape[2:]), most=MOST_KEPT).sum(0)
        sums = sums.reshape(6, 6, *kernel.shape[2:])
        return _combine(G.T, list(_combine(G.T, list(sums)).swapaxes(0, 1)))

    forward = functools.partial(convolve, products=_products, pairs=at.pairs)
    return bilinear(forward, grad_x, grad_w)(x, kernel)


def _by_turns(f: Callable[..., Array], *arrays: Array, channels: int, most: int) -> Array:
    """Apply `f` to some examples at a time, as many as have tiles of `most` bytes together."""
    size = math.prod(arrays[0].shape[1:-1]) * channels * arrays[0].dtype.itemsize * 36 // 16
    count = len(arrays[0])
    turn = max(n for n in range(1, count + 1) if count % n == 0 and n <= max(1, most // size))
    if turn == count:
        return f(*arrays)
    parts = [a.reshape(count // turn, -1, *a.shape[2:]) for a in arrays]
    like = jax.eval_shape(f, *(a[:turn] for a in arrays)).shape

    def some(parts: Sequence[Array]) -> Array:
        given = (p.reshape(turn, *a.shape[1:]) for p, a in zip(parts, arrays, strict=True))
        return f(*given).reshape(-1, *like[2:])

    @apart  # or XLA sets the results of every layer aside when the step begins
    def in_turn(*parts: Array) -> Array:
        # Without the checkpoint a gradient would make the tiles of all turns before the first one.
        return lax.map(jax.checkpoint(some, prevent_cse=False), parts)

    return in_turn(*parts).reshape(-1, *like[1:])


def _tiles(out: int) -> int:
    return -(-out // 4)


def _flat(tiles: Float[Array, "6 6 batch rows columns c"]) -> Float[Array, "36 tiles c"]:
    return tiles.reshape(36, -1, tiles.shape[-1])


def _seen(x: Array, pairs: Pairs, out: tuple[int, ...]) -> Float[Array, "6 6 batch rows columns c"]:
    """Return Bᵀ d B for every tile."""
    missing = [-n % 4 for n in out]
    pairs = tuple((lo, hi + m) for (lo, hi), m in zip(pairs, missing, strict=True))
    return _seen_columns(_seen_rows(pad_with(0.0, x, pairs)))


@apart
def _seen_rows(x: Float[Array, "batch *cells c"]) -> Float[Array, "6 batch rows width c"]:
    return _combine(B.T, _every_fourth(x, 1, 6))


@apart
def _seen_columns(rows: Array) -> Float[Array, "6 6 batch rows columns c"]:
    return _combine(B.T, _every_fourth(rows, 3, 6))


@apart
def _products(
    tiles: Float[Array, "36 tiles c_in"], w: Float[Array, "3 3 c_in c_out"]
) -> Float[Array, "36 tiles c_out"]:
    """Return Σ_c (G w_c Gᵀ) ⊙ tiles_c.

    The kernel, transformed, is four times as large: in one call with the tiles it is so no sooner
    than they are there. By itself XLA would transform those of all layers at the start of the step.
    """
    return lax.dot_general(tiles, _weights(G, w), (((2,), (1,)), ((0,), (0,))))


@apart
def _products_turned(
    tiles: Float[Array, "36 tiles c_out"], w: Float[Array, "3 3 c_in c_out"]
) -> Float[Array, "36 tiles c_in"]:
    """Return the same for the kernel turned by half a circle, from its outputs to its inputs."""
    return lax.dot_general(tiles, _weights(G[:, ::-1], w), (((2,), (2,)), ((0,), (0,))))


def _weights(g: np.ndarray, w: Float[Array, "3 3 c_in c_out"]) -> Float[Array, "36 c_in c_out"]:
    """Return g w gᵀ, columns first."""
    return _combine(g, list(_combine(g, list(w)).swapaxes(0, 1))).reshape(36, *w.shape[2:])


@apart
def _spread(g: Array) -> Float[Array, "6 6 batch rows columns c"]:
    """Return A ȳ Aᵀ for every tile."""
    rows = _combine(A, _every_fourth(g, 1, 4))
    return _combine(A, _every_fourth(rows, 3, 4))


@apart
def _outputs(tiles: Float[Array, "6 6 batch rows columns c"]) -> Float[Array, "batch *out c"]:
    """Return Aᵀ m A for every tile m, each in its place."""
    rows = _combine(A.T, [tiles[:, i] for i in range(6)])
    y = _combine(A.T, [rows[:, i] for i in range(6)])  # column, row within the tile, batch, tile
    y = y.transpose(2, 3, 1, 4, 0, 5)
    return y.reshape(len(y), 4 * y.shape[1], 4 * y.shape[3], -1)


def _every_fourth(x: Array, axis: int, count: int) -> list[Array]:
    """Return cell i of all tiles along `axis`, for each i: tiles begin at every fourth cell."""
    tiles = (x.shape[axis] - count) // 4 + 1
    return [lax.slice_in_dim(x, i, i + 4 * tiles - 3, 4, axis) for i in range(count)]


def _combine(matrix: np.ndarray, maps: list[Array]) -> Array:
    """Stack the linear combinations of `maps` that the rows of `matrix` say."""
    combined = []
    for row in matrix:
        terms = [m if c == 1 else m * float(c) for c, m in zip(row, maps, strict=True) if c]
        total = terms[0]
        for term in terms[1:]:
            total = total + term
        combined.append(total)
    return jnp.stack(combined)
