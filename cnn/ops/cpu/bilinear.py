"""A bilinear operation with gradients of one's own, differentiable in every mode and order.

For y = f(x, w), linear in both, a rule for reverse mode alone would say

    x̄ = grad_x(ȳ, w),    w̄ = grad_w(x, ȳ)

and lose forward mode. Here the tangent is written as the transpose of these two,

    ẏ = grad_x(·, w)ᵀ ẋ + grad_w(x, ·)ᵀ ẇ,

which reverse mode transposes once more, back into grad_x and grad_w.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

Bilinear = Callable[[Array, Array], Array]


def bilinear(f: Bilinear, grad_x: Bilinear, grad_w: Bilinear) -> Bilinear:
    """Return `f(x, w)` whose gradients are `grad_x(ȳ, w)` and `grad_w(x, ȳ)`."""
    op = jax.custom_jvp(f)

    def rule(
        primals: tuple[Array, Array], tangents: tuple[Array | SymbolicZero, ...]
    ) -> tuple[Array, Array]:
        x, w = primals
        y = op(x, w)
        backward = (lambda g: grad_x(g, w), lambda g: grad_w(x, g))
        parts = [
            jax.linear_transpose(back, y)(tangent)[0]
            for back, tangent in zip(backward, tangents, strict=True)
            if not isinstance(tangent, SymbolicZero)  # what is not differentiated costs nothing
        ]
        return y, functools.reduce(jnp.add, parts)

    op.defjvp(rule, symbolic_zeros=True)
    return op
