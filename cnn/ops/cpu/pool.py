"""Max-pooling as the maximum of shifted views, with a gradient that goes to the first maximum.

y[p, c] = max_a x[s·p + r·a − lo, c]
ẏ[p, c] = ẋ[s·p + r·a(p, c) − lo, c],    a(p, c) the first tap with x[s·p + r·a − lo, c] = y[p, c]
"""

import functools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.cpu.no_fusion import no_fusion
from cnn.ops.cpu.transpose import dilate_output
from cnn.ops.padding import pad_constant
from cnn.ops.patches import shifted_views
from cnn.ops.window import WindowSpec
from cnn.ops.window_argmax import first_argmax, tap_views


@functools.partial(jax.custom_jvp, nondiff_argnums=(1,))
def max_pool(x: Float[Array, "batch *spatial c"], spec: WindowSpec) -> Float[Array, "batch *out c"]:
    """Return the largest value in each window, ignoring padding; NaN counts as the largest."""
    return functools.reduce(jnp.maximum, tap_views(x, spec))


@max_pool.defjvp
def _jvp(spec: WindowSpec, primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    (x,), (dx,) = primals, tangents
    y = max_pool(x, spec)
    find = no_fusion(functools.partial(first_argmax, spec=spec))
    argmax = find(lax.stop_gradient(x))
    disjoint = spec.strides == spec.window and set(spec.dilation) == {1}
    scatter = functools.partial(_interleave if disjoint else _scatter_add, spec=spec)
    (dy,) = jax.linear_transpose(lambda g: scatter(g, argmax), y)(dx)
    return y, dy


def _interleave(g: Array, argmax: Array, spec: WindowSpec) -> Float[Array, "batch *spatial c"]:
    """Return the gradient of x for windows side by side, in which every position occurs once."""

    def interleave(g: Array, argmax: Array) -> Array:
        zeros = jnp.zeros_like(g)
        maps = [lax.select(argmax == a, g, zeros) for a in range(math.prod(spec.window))]
        for axis in range(len(spec.window), 0, -1):  # merges the taps of one axis after another
            k, n = spec.window[axis - 1], spec.out[axis - 1]
            rows = [jnp.stack(maps[i : i + k], axis + 1) for i in range(0, len(maps), k)]
            maps = [m.reshape(*m.shape[:axis], n * k, *m.shape[axis + 2 :]) for m in rows]
        ends = tuple(
            (-lo, n + lo - m)
            for n, m, (lo, _) in zip(spec.size, maps[0].shape[1:], spec.pairs, strict=False)
        )
        return pad_constant(0.0, maps[0], ends)

    return no_fusion(interleave)(g, argmax)


def _scatter_add(g: Array, argmax: Array, spec: WindowSpec) -> Float[Array, "batch *spatial c"]:
    """Return the gradient of x: for every position, the sum over the windows that chose it."""
    dilated_g = no_fusion(lambda g: dilate_output(0.0, g, spec)[0])(g)
    dilated_argmax = no_fusion(lambda a: dilate_output(-1, a, spec)[0])(argmax)
    inputs = dilate_output(0.0, g, spec)[1]

    def add(g: Array, argmax: Array) -> Array:
        zeros = jnp.zeros((len(g), *inputs.out, g.shape[-1]), g.dtype)
        taps = reversed(range(math.prod(spec.window)))
        views = zip(taps, shifted_views(g, inputs), shifted_views(argmax, inputs), strict=True)
        return functools.reduce(lax.add, [lax.select(c == a, v, zeros) for a, v, c in views])

    return no_fusion(add)(dilated_g, dilated_argmax)
