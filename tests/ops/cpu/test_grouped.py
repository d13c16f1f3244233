"""Convolution in groups, by convolutions of one group."""

from __future__ import annotations

from functools import partial

import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given
from jax import Array
from numpy.testing import assert_array_equal

from cnn import ops
from cnn.ops.cpu import grouped
from cnn.ops.lax_conv import lax_conv
from tests.ops import strategies
from tests.ops.cpu import against_lax
from tests.ops.strategies import Case, cases


def one_group(x: Array, kernel: Array, spec: ops.WindowSpec) -> Array:
    return lax_conv(spec)(x, kernel)


@against_lax.few_examples
@given(case=cases(modes=["zeros"]))
def test_convolution_in_groups(case: Case) -> None:
    implementation = partial(grouped.grouped, spec=against_lax.spec_of(case), convolve=one_group)
    definition = against_lax.lax_conv(case, case.groups)
    against_lax.assert_same_derivatives(implementation, definition, case.x(), case.kernel())


@pytest.mark.parametrize(
    ("groups", "taps", "blocks"), [(6, 3, 6), (34, 3, 17), (37, 1, 1), (8, 129, 2)]
)
def test_blocks_of_several_groups(groups: int, taps: int, blocks: int) -> None:
    """At most 32 blocks, each of whole groups, and at most 512 taps in them together."""
    rng = np.random.default_rng(0)
    x = strategies.numbers(rng, (2, 140, 2 * groups))
    kernel = strategies.numbers(rng, (taps, 2, 3 * groups))
    spec = ops.window_spec((140,), taps)
    seen = []

    def convolve(x: Array, kernel: Array, spec: ops.WindowSpec) -> Array:
        seen.append(kernel.shape)
        return one_group(x, kernel, spec)

    found = grouped.grouped(jnp.asarray(x), jnp.asarray(kernel), spec, convolve)
    size = groups // blocks
    assert seen == [(taps, 2 * size, 3 * size)] * blocks
    assert_array_equal(found, lax_conv(spec, groups)(x, kernel))
