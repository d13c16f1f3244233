"""Matrix product whose two gradients are computed in one call.

y = x w,    (x̄, w̄) = (ȳ wᵀ, xᵀ ȳ)

An optimizer writes the next weights over w as soon as w̄ is known. If x̄ is a separate computation,
XLA may schedule it later, and so copies w at the start of the step: 134 of the 138 million weights
of VGG16. One call for both reads w before it is overwritten, without a copy.
"""

import jax
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jaxtyping import Array, Float

from cnn.ops.cpu.no_fusion import no_fusion

Matrix = Float[Array, "rows columns"]


@no_fusion
def _gradients(x: Matrix, w: Matrix, g: Matrix) -> tuple[Matrix, Matrix]:
    grad_x = lax.dot_general(g, w, (((1,), (1,)), ((), ())))
    grad_w = lax.dot_general(x, g, (((0,), (0,)), ((), ())))
    return grad_x, grad_w


@jax.custom_jvp
def _matmul(x: Matrix, w: Matrix) -> Matrix:
    return lax.dot(x, w)


def _jvp(
    primals: tuple[Matrix, Matrix], tangents: tuple[Matrix | SymbolicZero, ...]
) -> tuple[Matrix, Matrix]:
    (x, w), (dx, dw) = primals, tangents
    y = _matmul(x, w)
    if isinstance(dx, SymbolicZero):
        return y, _matmul(x, dw)
    if isinstance(dw, SymbolicZero):
        return y, _matmul(dx, w)
    return y, jax.linear_transpose(lambda g: _gradients(x, w, g), y)((dx, dw))[0]


_matmul.defjvp(_jvp, symbolic_zeros=True)


def matmul(x: Float[Array, "*batch c_in"], w: Matrix) -> Float[Array, "*batch c_out"]:
    """Return x w for every row of `x`."""
    return _matmul(x.reshape(-1, x.shape[-1]), w).reshape(*x.shape[:-1], w.shape[-1])
