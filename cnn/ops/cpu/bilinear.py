"""A bilinear function with custom gradients, differentiable in every mode and order.

`jax.custom_vjp` would define the gradients of y = f(x, w),

    x̄ = grad_x(ȳ, w),    w̄ = grad_w(x, ȳ)

but rule out forward mode. Instead, the tangent is defined by the transposes of these two linear
functions of ȳ,

    ẏ = grad_x(·, w)ᵀ ẋ + grad_w(x, ·)ᵀ ẇ

Reverse mode transposes them again, which gives grad_x and grad_w back.
"""

import functools
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array

Bilinear = Callable[[Array, Array], Array]


def bilinear(f: Bilinear, grad_x: Bilinear, grad_w: Bilinear) -> Bilinear:
    """Return `f(x, w)` with the gradients `grad_x(ȳ, w)` and `grad_w(x, ȳ)`."""
    op = jax.custom_jvp(f)

    def jvp(
        primals: tuple[Array, Array], tangents: tuple[Array | SymbolicZero, ...]
    ) -> tuple[Array, Array]:
        x, w = primals
        y = op(x, w)
        gradients = (lambda g: grad_x(g, w), lambda g: grad_w(x, g))
        terms = [
            jax.linear_transpose(gradient, y)(tangent)[0]
            for gradient, tangent in zip(gradients, tangents, strict=True)
            if not isinstance(tangent, SymbolicZero)  # no work for an argument held constant
        ]
        return y, functools.reduce(jnp.add, terms)

    op.defjvp(jvp, symbolic_zeros=True)
    return op
