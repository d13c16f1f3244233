"""The gradient of a kernel as one matrix product for each row of taps.

    w̄[a, c, o] = Σ_b Σ_p x[b, s·p + r·a − lo, c] · ȳ[b, p, o]

is, for each a, the product of what the tap sees, turned on its side, with ȳ, all positions of all
examples being summed over. With few channels the taps of a row go into one product.
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.cpu.bilinear import bilinear
from cnn.ops.cpu.patches import pad_with, taps
from cnn.ops.window import WindowSpec


def by_taps(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in c_out"],
    at: WindowSpec,
    definition: Callable[[Array, Array], Array],
) -> Float[Array, "batch *out c_out"]:
    """Convolve by `definition` in one group; only the kernel's gradient is computed otherwise."""

    def grad_x(g: Array, w: Array) -> Array:
        (back,) = jax.linear_transpose(lambda x: definition(x, w), x)(g)
        return back

    def grad_w(x: Array, g: Array) -> Array:
        seen = taps(pad_with(0.0, x, at.pairs), at)
        together = at.window[-1] if x.shape[-1] < 32 else 1
        summed = tuple(range(x.ndim - 1))
        products = [
            jnp.tensordot(jnp.concatenate(seen[i : i + together], -1), g, (summed, summed))
            for i in range(0, len(seen), together)
        ]
        return jnp.concatenate(products).reshape(kernel.shape)

    return bilinear(definition, grad_x, grad_w)(x, kernel)
