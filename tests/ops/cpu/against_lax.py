"""Compare an implementation with the definition in `lax`: value, first and second gradients."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import settings
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.ops.lax_conv import lax_conv as by_lax
from tests.ops.strategies import Case

Op = Callable[..., jax.Array]
few_examples = settings(max_examples=settings().max_examples // 6)  # each compiles 3 derivatives


def assert_same_derivatives(implementation: Op, definition: Op, *arrays: np.ndarray) -> None:
    """Compare value, gradients, and gradients of a function of the gradients, exactly.

    The arrays hold small whole numbers, whose sums of products are exact in float64.
    """

    def derivatives(op: Op) -> Callable[..., tuple]:
        def weighted(*arrays: jax.Array) -> jax.Array:
            y = op(*arrays)
            weights = jnp.arange(y.size, dtype=y.dtype).reshape(y.shape) % 5 - 2
            return jnp.sum(y * y * weights)

        every = tuple(range(len(arrays)))

        def slope(*arrays: jax.Array) -> jax.Array:
            first = jax.grad(weighted, every)(*arrays)
            return sum(jnp.sum(g * (jnp.arange(g.size).reshape(g.shape) % 3)) for g in first)

        return jax.jit(
            lambda *a: (op(*a), jax.grad(weighted, every)(*a), jax.grad(slope, every)(*a))
        )

    with jax.enable_x64(True):
        doubles = [a.astype(np.float64) for a in arrays]
        found, expected = derivatives(implementation)(*doubles), derivatives(definition)(*doubles)
        jax.tree.map(assert_array_equal, found, expected)


def lax_conv(case: Case, groups: int = 1) -> Op:
    """Return the definition of the convolution of a case with zero padding."""
    return by_lax(spec_of(case), groups)


def spec_of(case: Case) -> ops.WindowSpec:
    size, window, strides, before, after, dilation = case.windows
    return ops.WindowSpec(size, window, strides, tuple(zip(before, after, strict=True)), dilation)
