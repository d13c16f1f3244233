"""Pooling to a given output size, for any input size. `cnn.ops.bins` says what each output sees."""

from collections.abc import Callable
from functools import partial

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.bins import Bins
from cnn.ops.checks import check_input, promote_floats
from cnn.ops.implementations import compute
from cnn.ops.pool import first_largest
from cnn.ops.window import Size, check_positions, per_axis

Reduce = Callable[..., Array]
"""`(cells, axis)` → their reduction; `inside`, if given, says which cells do not repeat others."""
MAX_SLICES = 16
"""The most bins of which each is a slice."""


def adaptive_max_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the largest value in each of `output_size` bins per spatial axis.

    The gradient goes to the first of equal values, as in `max_pool`.
    """
    return _per_axis("adaptive_max_pool", _largest, x, output_size)


def adaptive_avg_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the mean of each of `output_size` bins per spatial axis."""
    return _per_axis("adaptive_avg_pool", _mean, x, output_size)


def _per_axis(operation: str, reduce: Reduce, x: Array, output_size: Size) -> Array:
    """Pool one axis after another, the last one first: as all at once, also for equal values."""
    (x,) = promote_floats(x=x)
    check_input(x.shape)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    sizes = per_axis(output_size, x.ndim - 2, "output_size")
    check_positions("the output", sizes)
    for axis, out in reversed(list(enumerate(sizes, 1))):
        bins = Bins(wide.shape[axis], out, axis)
        wide = compute(operation, partial(_reduced, bins=bins, reduce=reduce), wide, bins=bins)
    return wide.astype(x.dtype)


def _reduced(x: Array, bins: Bins, reduce: Reduce) -> Array:
    """Reduce the cells of each bin."""
    axis, starts, ends = bins.axis, *bins.positions
    if bins.size % bins.out == 0:
        equal = (*x.shape[:axis], bins.out, bins.size // bins.out, *x.shape[axis + 1 :])
        return reduce(x.reshape(equal), axis + 1)
    if bins.out <= MAX_SLICES:
        slices = [lax.slice_in_dim(x, i, j, axis=axis) for i, j in zip(starts, ends, strict=True)]
        return jnp.stack([reduce(part, axis) for part in slices], axis)
    at, inside = (np.stack(arrays, 1) for arrays in zip(*bins.positions.cells(), strict=True))
    others = [a for a in range(x.ndim + 1) if a not in (axis, axis + 1)]
    return reduce(jnp.take(x, at, axis), axis + 1, np.expand_dims(inside, others))


def _largest(cells: Array, axis: int, inside: np.ndarray | None = None) -> Array:
    return first_largest(cells, axis)  # a repeated cell is not the first


def _mean(cells: Array, axis: int, inside: np.ndarray | None = None) -> Array:
    return cells.mean(axis, where=inside)
