"""Pooling to a given output size, for any input size.

Along an axis of n positions, output i of m is computed from the bin

    ⌊i · n / m⌋ … ⌈(i + 1) · n / m⌉ − 1

as in PyTorch. Bins are equal where m divides n. Otherwise some overlap, or repeat where m > n.
"""

from collections.abc import Callable

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.checks import check_input, promote_floats
from cnn.ops.window import Size, per_axis


def adaptive_max_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the largest value in each of `output_size` bins per spatial axis."""
    return _per_bin(x, output_size, jnp.max)


def adaptive_avg_pool(
    x: Float[Array, "batch *spatial c"], output_size: Size
) -> Float[Array, "batch *out c"]:
    """Return the mean of each of `output_size` bins per spatial axis."""
    return _per_bin(x, output_size, jnp.mean)


def _per_bin(x: Array, output_size: Size, reduce: Callable[..., Array]) -> Array:
    """Reduce one axis after another, which gives the same maximum or mean as all at once."""
    (x,) = promote_floats(x=x)
    check_input(x.shape)
    wide = x.astype(jnp.promote_types(x.dtype, jnp.float32))
    for axis, out in enumerate(per_axis(output_size, x.ndim - 2, "output_size"), 1):
        n = wide.shape[axis]
        bins = [(i * n // out, -(-(i + 1) * n // out)) for i in range(out)]
        views = [lax.slice_in_dim(wide, start, end, axis=axis) for start, end in bins]
        wide = jnp.concatenate([reduce(v, axis=axis, keepdims=True) for v in views], axis)
    return wide.astype(x.dtype)
