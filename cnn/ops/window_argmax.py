"""Which tap of each window holds its largest value: what gradients of max-pooling need."""

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float, Int

from cnn.ops.padding import finite, pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec


def tap_views(x: Float[Array, "batch *spatial c"], spec: WindowSpec) -> list[Array]:
    """Return for each tap the values that all windows have there; padding is −inf."""
    return shifted_views(pad_constant(-jnp.inf, x, spec.pairs), spec)


def first_argmax(
    x: Float[Array, "batch *spatial c"], spec: WindowSpec
) -> Int[Array, "batch *out c"]:
    """Return the first tap that holds the largest value, or NaN; never one in the padding.

    Values are compared with each other, not with the maximum that was computed elsewhere: a
    compiler may compute x once more there, and round it in another way, so that no tap equals it.
    """
    if spec.is_padded:  # which comes after every value if it alone is −inf
        x = finite(x)
    largest, *others = tap_views(x, spec)
    argmax = jnp.zeros(largest.shape, jnp.int8)
    for a, value in enumerate(others, 1):
        larger = (value > largest) | ((value != value) & (largest == largest))
        argmax = lax.select(larger, jnp.full_like(argmax, a), argmax)
        largest = lax.select(larger, value, largest)
    return argmax
