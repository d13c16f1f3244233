"""Max-pooling by windows side by side, whose gradient is one elementwise program.

y[p, c] = max_a x[s·p + a − lo, c]
x̄[s·p + a − lo, c] = ȳ[p, c] if a is the first tap with x[s·p + a − lo, c] = y[p, c], else 0

XLA's own gradient of a maximum, `select_and_scatter`, compares every window once more and adds up
what it finds. Here every position belongs to one window, so nothing is added.
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.padding import pad_constant
from cnn.ops.window import WindowSpec
from cnn.ops.window_argmax import first_argmax, tap_views


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: Float[Array, "batch *spatial c"], spec: WindowSpec) -> Float[Array, "batch *out c"]:
    """Return the largest value in each window, ignoring padding; NaN counts as the largest.

    The stride must be the window.
    """
    return functools.reduce(jnp.maximum, tap_views(x, spec))


@max_pool.defjvp
def _jvp(spec: WindowSpec, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y = max_pool(x, spec)
    argmax = first_argmax(lax.stop_gradient(x), spec)
    (dy,) = jax.linear_transpose(lambda g: _to_inputs(g, argmax, spec), y)(dx)
    return y, dy


def _to_inputs(g: Array, argmax: Array, spec: WindowSpec) -> Float[Array, "batch *spatial c"]:
    """Return the gradient of x: `g` at the tap `argmax` of each window, and zeros."""
    taps = jnp.arange(math.prod(spec.window), dtype=argmax.dtype).reshape(spec.window)
    inner = tuple(
        range(2, 2 + 2 * len(spec.window), 2)
    )  # an axis over taps after each over windows
    taps = jnp.expand_dims(taps, (0, *(axis - 1 for axis in inner), inner[-1] + 1))
    g, argmax = jnp.expand_dims(g, inner), jnp.expand_dims(argmax, inner)
    maps = jnp.where(argmax == taps, g, jnp.zeros((), g.dtype))
    sizes = [n * k for n, k in zip(spec.out, spec.window, strict=True)]
    maps = maps.reshape(len(g), *sizes, g.shape[-1])
    ends = [(-lo, n + lo - m) for n, m, (lo, _) in zip(spec.size, sizes, spec.pairs, strict=True)]
    return pad_constant(0.0, maps, tuple(ends))
