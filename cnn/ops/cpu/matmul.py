"""A product of two matrices whose two gradients are computed in one call.

y = x w,    (x̄, w̄) = (ȳ wᵀ, xᵀ ȳ)

Apart from each other, nothing says that x̄ is computed before an optimizer that was given w writes
the next weights in its place: it waits for w̄ alone. XLA then copies w at the start of the step,
134 of VGG16's 138 million weights among them. One call needs w for as long as it takes to compute
both.
"""

from __future__ import annotations

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from cnn.ops.cpu.no_fusion import apart

Matrix = Float[Array, "rows columns"]


@apart
def _gradients(x: Matrix, w: Matrix, g: Matrix) -> tuple[Matrix, Matrix]:
    of_x = lax.dot_general(g, w, (((1,), (1,)), ((), ())))
    of_w = lax.dot_general(x, g, (((0,), (0,)), ((), ())))
    return of_x, of_w


@jax.custom_jvp
def _product(x: Matrix, w: Matrix) -> Matrix:
    return lax.dot(x, w)


def _rule(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix | SymbolicZero, ...]
) -> tuple[Matrix, Matrix]:
    (x, w), (of_x, of_w) = primals, tangents
    y = _product(x, w)
    if isinstance(of_x, SymbolicZero):
        return y, _product(x, of_w)
    if isinstance(of_w, SymbolicZero):
        return y, _product(of_x, w)
    return y, jax.linear_transpose(lambda g: _gradients(x, w, g), y)((of_x, of_w))[0]


_product.defjvp(_rule, symbolic_zeros=True)


def product(x: Float[Array, "*batch c_in"], w: Matrix) -> Float[Array, "*batch c_out"]:
    """Multiply every row of `x` by `w`."""
    return _product(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])
