"""Max-pooling by windows side by side, whose program for a GPU runs here on a CPU."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from hypothesis import assume, given
from numpy.testing import assert_array_equal

from cnn.ops.gpu.pool import max_pool
from cnn.ops.window import window_spec
from tests.ops.cpu.against_lax import assert_same_derivatives, few_examples, spec_of
from tests.ops.strategies import Case, cases


@few_examples
@given(case=cases(modes=["zeros"]))
def test_max_pooling_and_its_ties(case: Case) -> None:
    """Whole numbers from -4 to 4 have many ties."""
    one = (1,) * len(case.windows.size)
    windows = case.windows._replace(dilation=one, strides=case.windows.window)
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


def test_nan_is_the_largest_and_bfloat16_stays() -> None:
    spec = window_spec((4,), 2, 2)
    x = jnp.array([1, np.nan, 3, 3], jnp.bfloat16).reshape(1, 4, 1)
    y, back = jax.vjp(partial(max_pool, spec=spec), x)
    assert y.dtype == jnp.bfloat16
    assert_array_equal(y.ravel().astype(float), [np.nan, 3])
    assert_array_equal(back(jnp.ones_like(y))[0].ravel().astype(float), [0, 1, 1, 0])
