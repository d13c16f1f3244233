"""Convolutions whose padding XLA gets wrong on a CPU.

With negative padding before the input and positive padding after it, XLA on a CPU reads other
memory (openxla/xla, issue 48713). The convolution that a gradient by the input is has such padding
where the padding before the input is at least a whole window. `cnn.ops.conv` pads beforehand;
networks of other libraries do not.
"""

from __future__ import annotations

import jax
from jax.extend.core import ClosedJaxpr, JaxprEqn

from cnn.errors import InputError
from cnn.geometry.jaxpr import aval, equations


def check_padding(program: ClosedJaxpr) -> None:
    """Raise `InputError` if JAX runs on a CPU, which gets a convolution or its gradient wrong."""
    if jax.default_backend() != "cpu":
        return
    for eqn in equations(program):
        if eqn.primitive.name == "conv_general_dilated" and _is_wrong(eqn):
            pairs, window = eqn.params["padding"], _window(eqn)
            raise InputError(
                f"padding {pairs} of a convolution with window {window} gives wrong values or "
                "gradients on a CPU (openxla/xla, issue 48713): pad or cut its input by lax.pad, "
                "and convolve with padding 'VALID'"
            )


def _is_wrong(eqn: JaxprEqn) -> bool:
    """Return whether an axis is cut before and padded after, forward or in the gradient."""
    numbers, params = eqn.params["dimension_numbers"], eqn.params
    size, out = (
        [aval(variable).shape[a] for a in axes[2:]]
        for variable, axes in (
            (eqn.invars[0], numbers.lhs_spec),
            (eqn.outvars[0], numbers.out_spec),
        )
    )
    axes = zip(
        *(size, out, _window(eqn), params["padding"], params["window_strides"]),
        *(params["lhs_dilation"], params["rhs_dilation"]),
        strict=True,
    )
    for n, m, k, (lo, hi), s, insert, r in axes:
        # The gradient pads the output, at its stride, so that the window again ends where x does.
        span = (k - 1) * r + 1
        before = span - 1 - lo
        after = (n - 1) * insert + span - ((m - 1) * s + 1) - before
        if lo < 0 < hi or before < 0 < after:
            return True
    return False


def _window(eqn: JaxprEqn) -> tuple[int, ...]:
    kernel, axes = aval(eqn.invars[1]).shape, eqn.params["dimension_numbers"].rhs_spec
    return tuple(kernel[a] for a in axes[2:])
