"""Pooling to a given output size, for any input size.

Along an axis of n positions, output i of m is computed from the bin

    ⌊i · n / m⌋ … ⌈(i + 1) · n / m⌉ − 1

as in PyTorch. Bins are equal where m divides n. Otherwise some overlap, or repeat where m > n.
"""

from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn.ops.checks import check_input, promote_floats
from cnn.ops.pool import first_largest
from cnn.ops.window import Size, check_positions, per_axis


def adaptive_max_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the largest value in each of `output_size` bins per spatial axis.

    The gradient goes to the first of equal values, as in `max_pool`.
    """
    return _per_bin(x, output_size, lambda bins, weights, axis: first_largest(bins, axis))


def adaptive_avg_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the mean of each of `output_size` bins per spatial axis."""

    def mean(bins: Array, weights: np.ndarray, axis: int) -> Array:
        others = [a for a in range(bins.ndim) if a not in (axis - 1, axis)]
        return (bins * jnp.expand_dims(weights.astype(bins.dtype), others)).sum(axis)

    return _per_bin(x, output_size, mean)


def _per_bin(
    x: Array, output_size: Size, reduce: Callable[[Array, np.ndarray, int], Array]
) -> Array:
    """Reduce one axis after another, the last one first: as all at once, also for equal values.

    `reduce` gets the bins `(..., out, width, ...)`, the weight of each of their cells in a mean,
    `(out, width)`, and the axis of the cells. A bin narrower than the others repeats its last cell,
    with a weight of 0.
    """
    (x,) = promote_floats(x=x)
    check_input(x.shape)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    sizes = per_axis(output_size, x.ndim - 2, "output_size")
    check_positions("the output", sizes)
    for axis, out in reversed(list(enumerate(sizes, 1))):
        n = wide.shape[axis]
        start, end = np.arange(out) * n // out, -(-np.arange(1, out + 1) * n // out)
        cells = start[:, None] + np.arange((end - start).max())
        inside = cells < end[:, None]
        if n % out:
            bins = jnp.take(wide, np.minimum(cells, end[:, None] - 1), axis)
        else:
            bins = wide.reshape(*wide.shape[:axis], out, n // out, *wide.shape[axis + 1 :])
        wide = reduce(bins, inside / inside.sum(1, keepdims=True), axis + 1)
    return wide.astype(x.dtype)
