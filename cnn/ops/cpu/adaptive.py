"""Adaptive pooling along an axis: the first position of all bins, then the second, and so on.

A bin i holds the positions s_i ≤ j < e_i. The bins f_j ≤ i < l_j that hold a position follow each
other, too, and are few. So the gradient is computed in the same way:

    mean      y[i] = Σ_a x[s_i + a] / (e_i − s_i),    x̄[j] = Σ_m ȳ[f_j + m] / (e − s)[f_j + m]
    largest   y[i] = max_a x[s_i + a],    x̄[j] = Σ_m ȳ[f_j + m] for bins whose first maximum is at j

Each term reads one position for every result. XLA's gradient of this reading adds to one position
after another.
"""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from cnn.ops.bins import Bins
from cnn.ops.cpu.no_fusion import no_fusion

MAX_CELLS = 32
"""The most terms of a sum."""


def fits(x: Array, bins: Bins) -> bool:
    """Return whether bins are unequal, and few per position, with few positions each.

    Equal bins are the rows of a reshaped array, whose gradient needs no reading.
    """
    few = max(bins.positions.width, bins.holders.width) <= MAX_CELLS
    return bins.size % bins.out != 0 and few


def mean(x: Float[Array, "..."], bins: Bins) -> Float[Array, "..."]:
    """Return the mean of each bin."""
    start, end = bins.positions
    share = (1 / (end - start)).astype(x.dtype)

    def forward(x: Array) -> Array:
        cells = bins.positions.cells()
        return _sum([_read(x, at, bins) * _along(share * inside, bins, x) for at, inside in cells])

    def backward(g: Array) -> Array:
        cells = bins.holders.cells()
        return _sum([_read(g, i, bins) * _along(share[i] * inside, bins, g) for i, inside in cells])

    pool = jax.custom_jvp(forward)

    @pool.defjvp
    def jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        y = pool(*primals)
        return y, *jax.linear_transpose(backward, y)(*tangents)

    return pool(x)


def largest(x: Float[Array, "..."], bins: Bins) -> Float[Array, "..."]:
    """Return the largest value of each bin; the gradient goes to the first of equal values."""
    pool = jax.custom_jvp(functools.partial(_largest, bins=bins))

    @no_fusion
    def backward(g: Array, first: Array) -> Array:
        terms = []
        for i, inside in bins.holders.cells():
            cell = np.where(inside, np.arange(bins.size) - bins.positions.start[i], -1)
            value = _read(g, i, bins)
            is_first = _read(first, i, bins) == _along(cell.astype(np.int8), bins, g)
            terms.append(lax.select(is_first, value, lax.full_like(value, 0)))
        return _sum(terms)

    @pool.defjvp
    def jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
        y = pool(*primals)
        first = no_fusion(functools.partial(_first, bins=bins))(lax.stop_gradient(*primals))
        return y, *jax.linear_transpose(lambda g: backward(g, first), y)(*tangents)

    return pool(x)


def _largest(x: Array, bins: Bins) -> Array:
    return functools.reduce(lax.max, [_read(x, at, bins) for at, _ in bins.positions.cells()])


def _first(x: Array, bins: Bins) -> Int[Array, "..."]:
    """Return which cell of each bin is the first that holds the largest value, or NaN."""
    values = [_read(x, at, bins) for at, _ in bins.positions.cells()]
    most, first = values[0], lax.full(values[0].shape, 0, jnp.int8)
    for a, value in enumerate(values[1:], 1):
        larger = (value > most) | ((value != value) & (most == most))
        first = lax.select(larger, lax.full_like(first, a), first)
        most = lax.select(larger, value, most)
    return first


def _sum(terms: list[Array]) -> Array:
    return functools.reduce(lax.add, terms)


def _read(x: Array, at: np.ndarray, bins: Bins) -> Array:
    """Return the positions `at` of the axis."""
    others = tuple(a for a in range(x.ndim) if a != bins.axis)
    return lax.gather(
        x,
        at.astype(np.int32)[:, None],
        lax.GatherDimensionNumbers(others, (bins.axis,), (bins.axis,)),
        tuple(1 if a == bins.axis else n for a, n in enumerate(x.shape)),
        mode="promise_in_bounds",
    )


def _along(values: np.ndarray, bins: Bins, like: Array) -> Array:
    """Return one value for each position of the axis, in the shape of what is read from `like`."""
    shape = (*like.shape[: bins.axis], len(values), *like.shape[bins.axis + 1 :])
    return lax.broadcast_in_dim(values, shape, (bins.axis,))
