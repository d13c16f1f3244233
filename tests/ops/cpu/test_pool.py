"""Max-pooling by shifted views."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
from hypothesis import assume, given

from cnn.ops.cpu.pool import max_pool
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, spec_of
from tests.ops.strategies import Case, cases


@few_examples
@given(case=cases(modes=["zeros"]))
def test_max_pooling_and_its_ties(case: Case) -> None:
    """Whole numbers from -4 to 4 have many ties; `lax` has no gradient under dilation."""
    windows = case.windows._replace(dilation=(1,) * len(case.windows.size))
    case = case._replace(windows=windows)
    assume(windows.all_see_input)
    definition = partial(
        jax.lax.reduce_window,
        init_value=-jnp.inf,
        computation=jax.lax.max,
        window_dimensions=(1, *windows.window, 1),
        window_strides=(1, *windows.strides, 1),
        padding=((0, 0), *zip(windows.before, windows.after, strict=True), (0, 0)),
    )
    assert_same_derivatives(partial(max_pool, spec=spec_of(case)), definition, case.x())
