"""3×3 convolution with a quarter of the multiplications: F(4×4, 3×3) of Lavin and Gray (2016).

A tile of 4×4 outputs depends on 6×6 inputs d. For each of the 36 elements of the transformed tiles,
the sum over channels is a matrix product, with all tiles of all examples in the rows:

    Y = Aᵀ [Σ_c (G w_c Gᵀ) ⊙ (Bᵀ d_c B)] A
    w̄_c = Gᵀ [Σ_tiles (Bᵀ d_c B) ⊙ (A Ȳ Aᵀ)] G

and x̄ is the convolution of ȳ with the kernel rotated by 180°. The result is exact up to rounding
errors, which are about ten times those of the definition.
"""

import functools
import math
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.bilinear import bilinear
from cnn.ops.cpu.cost import Nanoseconds, Shape, products
from cnn.ops.cpu.no_fusion import no_fusion
from cnn.ops.padding import pad_constant
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

MIN_CHANNELS = 24
"""The fewest channels of input and output."""
MAX_BYTES = 2**28
"""Size of the transformed tiles that are computed at a time; beyond it, examples go in chunks."""
MAX_STORED_BYTES = 5 * 2**23
"""Size of the transformed tiles that the kernel's gradient may store; beyond it, it goes in chunks
too, and computes their tiles again."""


def winograd(
    x: Float[Array, "batch height width c_in"],
    kernel: Float[Array, "3 3 c_in c_out"],
    spec: WindowSpec,
) -> Float[Array, "batch *out c_out"]:
    """Convolve with stride 1 and no dilation, in one group."""
    channels = max(kernel.shape[2:])

    def convolve(x: Array, w: Array, products: Callable[..., Array], pairs: Pairs) -> Array:
        out = tuple(n + lo + hi - 2 for n, (lo, hi) in zip(x.shape[1:-1], pairs, strict=True))

        def chunk(x: Array) -> Array:
            tiles = products(_flat(_input_tiles(x, pairs, out)), w)
            y = _outputs(tiles.reshape(6, 6, len(x), *(-(-n // 4) for n in out), -1))
            return y[:, : out[0], : out[1]]

        return _in_chunks(chunk, x, channels=channels, max_bytes=MAX_BYTES)

    def grad_x(g: Array, w: Array) -> Array:
        pairs = tuple((2 - lo, 2 - hi) for lo, hi in spec.pairs)
        return convolve(g, w, _products_rotated, pairs)

    def grad_w(x: Array, g: Array) -> Array:
        def chunk(x: Array, g: Array) -> Array:
            inputs = _flat(_input_tiles(x, spec.pairs, spec.out))
            outputs = _output_tiles(pad_constant(0.0, g, tuple((0, -n % 4) for n in spec.out)))
            return lax.dot_general(inputs, _flat(outputs), (((1,), (1,)), ((0,), (0,))))[None]

        sums = _in_chunks(chunk, x, g, channels=channels, max_bytes=MAX_STORED_BYTES).sum(0)
        sums = sums.reshape(6, 6, *kernel.shape[2:])
        return _combine(G.T, list(_combine(G.T, list(sums)).swapaxes(0, 1)))

    forward = functools.partial(convolve, products=_products, pairs=spec.pairs)
    return bilinear(forward, grad_x, grad_w)(x, kernel)


def fits(x: Shape, kernel: Shape, spec: WindowSpec) -> bool:
    """Return whether the window is 3×3, the stride 1, and there are many channels.

    With few, little is saved for the larger rounding errors.
    """
    many = min(kernel[-2:]) >= MIN_CHANNELS
    return spec.window == (3, 3) and set(spec.strides + spec.dilation) == {1} and many


def cost(x: Shape, kernel: Shape, spec: WindowSpec, ns: Nanoseconds) -> float:
    """Return the time to transform inputs, outputs and the kernel, and for the products."""
    tiles, (c_in, c_out) = x[0] * math.prod(-(-n // 4) for n in spec.out), kernel[-2:]
    transformed = tiles * (c_in + c_out) * ns.tile + 3 * c_in * c_out * ns.entry
    return 36 * (transformed + products(ns, tiles, c_in, c_out))


def _in_chunks(
    f: Callable[..., Array], *arrays: Array, channels: int, max_bytes: int
) -> Float[Array, "*batch_and_rest"]:
    """Apply `f` to chunks of examples, each with at most `max_bytes` of tiles; join the results.

    All chunks have the same size, which is at least one example.
    """
    bytes_each = math.prod(arrays[0].shape[1:-1]) * channels * arrays[0].dtype.itemsize * 36 // 16
    count, most = len(arrays[0]), max(1, max_bytes // bytes_each)
    size = max(n for n in range(1, count + 1) if count % n == 0 and n <= most)
    if size == count:
        return f(*arrays)
    chunks = [a.reshape(count // size, -1, *a.shape[2:]) for a in arrays]
    result_shape = jax.eval_shape(f, *(a[:size] for a in arrays)).shape

    def one(chunk: Sequence[Array]) -> Array:
        inputs = (c.reshape(size, *a.shape[1:]) for c, a in zip(chunk, arrays, strict=True))
        return f(*inputs).reshape(-1, *result_shape[2:])

    @no_fusion  # else XLA allocates the results of every layer when the step begins
    def loop(*chunks: Array) -> Array:
        # Without the checkpoint, a gradient would first compute the tiles of all chunks.
        return lax.map(jax.checkpoint(one, prevent_cse=False), chunks)

    return loop(*chunks).reshape(-1, *result_shape[1:])


def _flat(tiles: Float[Array, "6 6 batch rows columns c"]) -> Float[Array, "36 tiles c"]:
    return tiles.reshape(36, -1, tiles.shape[-1])


def _input_tiles(
    x: Array, pairs: Pairs, out: tuple[int, ...]
) -> Float[Array, "6 6 batch rows columns c"]:
    """Return Bᵀ d B for every tile."""
    pairs = tuple((lo, hi + -n % 4) for (lo, hi), n in zip(pairs, out, strict=True))
    return _transform_columns(_transform_rows(pad_constant(0.0, x, pairs)))


@no_fusion
def _transform_rows(x: Float[Array, "batch *cells c"]) -> Float[Array, "6 batch rows width c"]:
    return _combine(B.T, _tile_elements(x, 1, 6))


@no_fusion
def _transform_columns(rows: Array) -> Float[Array, "6 6 batch rows columns c"]:
    return _combine(B.T, _tile_elements(rows, 3, 6))


@no_fusion
def _products(
    tiles: Float[Array, "36 tiles c_in"], w: Float[Array, "3 3 c_in c_out"]
) -> Float[Array, "36 tiles c_out"]:
    """Return Σ_c (G w_c Gᵀ) ⊙ tiles_c.

    The transformed kernel is four times as large as the kernel. One call with the tiles transforms
    it when the tiles are ready; otherwise XLA would transform the kernels of all layers at the
    start of the step.
    """
    return lax.dot_general(tiles, _transform_kernel(G, w), (((2,), (1,)), ((0,), (0,))))


@no_fusion
def _products_rotated(
    tiles: Float[Array, "36 tiles c_out"], w: Float[Array, "3 3 c_in c_out"]
) -> Float[Array, "36 tiles c_in"]:
    """Return the same for the kernel rotated by 180°, from its outputs to its inputs."""
    return lax.dot_general(tiles, _transform_kernel(G[:, ::-1], w), (((2,), (2,)), ((0,), (0,))))


def _transform_kernel(
    g: np.ndarray, w: Float[Array, "3 3 c_in c_out"]
) -> Float[Array, "36 c_in c_out"]:
    """Return g w gᵀ, columns first."""
    return _combine(g, list(_combine(g, list(w)).swapaxes(0, 1))).reshape(36, *w.shape[2:])


@no_fusion
def _output_tiles(g: Array) -> Float[Array, "6 6 batch rows columns c"]:
    """Return A ȳ Aᵀ for every tile."""
    rows = _combine(A, _tile_elements(g, 1, 4))
    return _combine(A, _tile_elements(rows, 3, 4))


@no_fusion
def _outputs(tiles: Float[Array, "6 6 batch rows columns c"]) -> Float[Array, "batch *out c"]:
    """Return Aᵀ m A for every tile m, at the positions of its outputs."""
    rows = _combine(A.T, [tiles[:, i] for i in range(6)])
    y = _combine(A.T, [rows[:, i] for i in range(6)])  # column, row within the tile, batch, tile
    y = y.transpose(2, 3, 1, 4, 0, 5)
    return y.reshape(len(y), 4 * y.shape[1], 4 * y.shape[3], -1)


def _tile_elements(x: Array, axis: int, count: int) -> list[Array]:
    """Return element i of all tiles along `axis`, for each i below `count`; tiles are 4 apart."""
    tiles = (x.shape[axis] - count) // 4 + 1
    return [lax.slice_in_dim(x, i, i + 4 * tiles - 3, 4, axis) for i in range(count)]


def _combine(matrix: np.ndarray, maps: list[Array]) -> Array:
    """Return the product of `matrix` with the stacked `maps`, by additions, without its zeros."""
    combined = []
    for row in matrix:
        terms = [m if c == 1 else m * float(c) for c, m in zip(row, maps, strict=True) if c]
        combined.append(functools.reduce(lax.add, terms))
    return jnp.stack(combined)
