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
    x: Float[Array, "batch *spatial c"], y: Float[Array, "batch *out c"], spec: WindowSpec
) -> Int[Array, "batch *out c"]:
    """Return the first tap whose value is the maximum `y`, or NaN; never one in the padding."""
    if spec.is_padded:  # which comes after every value if it alone is −inf
        x, y = finite(x), finite(y)
    views = tap_views(x, spec)
    argmax = jnp.full(y.shape, len(views) - 1, jnp.int8)  # the last one, if no other is
    for a, value in reversed(list(enumerate(views[:-1]))):
        found = (value == y) | (value != value)
        argmax = lax.select(found, jnp.full_like(argmax, a), argmax)
    return argmax
