"""The place of the first largest value along an axis: the least place whose value is the maximum.

    m = max_j x[j],    a = min { j : x[j] = m }

These are two reductions that XLA computes with vectors; its own argmax is one without. Both are in
a call that is not inlined: otherwise XLA could compute x twice and round it in two ways, so that no
value would equal the maximum.
"""

from jax import lax
from jaxtyping import Array, Float, Int

from cnn.ops.cpu.no_fusion import no_fusion

MIN_PLACES = 16
"""The fewest places for which two reductions are faster than one."""
MAX_PLACES = 2**24
"""The most places that float32 can number. It has a vectorized minimum, int32 has none."""


def argmax(x: Float[Array, "..."], axis: int) -> Int[Array, "..."]:
    """Return the first place of the largest value, or of NaN, along an axis, which stays."""
    others = tuple(a for a in range(x.ndim) if a != axis)

    @no_fusion
    def first(x: Array) -> Array:
        most = lax.broadcast_in_dim(lax.reduce_max(x, (axis,)), x.shape, others)
        place = lax.broadcasted_iota("float32", x.shape, axis)
        beyond = lax.full_like(place, x.shape[axis])
        is_largest = (x == most) | (x != x)
        return lax.reduce_min(lax.select(is_largest, place, beyond), (axis,))

    return lax.expand_dims(lax.convert_element_type(first(lax.stop_gradient(x)), "int32"), (axis,))


def fits(x: Array, axis: int) -> bool:
    """Return whether places are neither few nor too many, and channels lie side by side."""
    return axis < x.ndim - 1 and MIN_PLACES <= x.shape[axis] <= MAX_PLACES
