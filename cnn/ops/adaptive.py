"""Pooling to a given output size, whatever the input size.

Along an axis of n positions, output i of m sees the bin

    ⌊i · n / m⌋ … ⌈(i + 1) · n / m⌉ − 1

(PyTorch's bins): they cover the axis, are equal where m divides n, overlap by one where it does
not, and repeat positions where m > n.
"""

from __future__ import annotations

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.checks import check_map, floats
from cnn.ops.window import Size, per_axis


def adaptive_max_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the largest value in each of `output_size` bins per spatial axis.

    Raises `InputError` if `output_size` is not one positive int, or one per axis.
    """
    return _per_bin(x, output_size, jnp.max)


def adaptive_avg_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the mean of each of `output_size` bins per spatial axis.

    Raises `InputError` if `output_size` is not one positive int, or one per axis.
    """
    return _per_bin(x, output_size, jnp.mean)


def bins(size: int, out: int) -> list[tuple[int, int]]:
    """Return the (start, end) of `out` bins that cover `size` positions.

    >>> bins(5, 3)
    [(0, 2), (1, 4), (3, 5)]
    """
    return [(i * size // out, -(-(i + 1) * size // out)) for i in range(out)]


def _per_bin(x: Array, output_size: Size, reduce: Callable[..., Array]) -> Array:
    """Reduce the bins of one axis after the other: both reductions factorise over a box."""
    (x,) = floats(x=x)
    check_map(x.shape)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, out in enumerate(per_axis(output_size, x.ndim - 2, "output_size"), 1):
        views = [
            lax.slice_in_dim(wide, start, end, axis=axis)
            for start, end in bins(wide.shape[axis], out)
        ]
        wide = jnp.concatenate([reduce(v, axis=axis, keepdims=True) for v in views], axis)
    return wide.astype(x.dtype)
