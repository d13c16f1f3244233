"""Max-pooling by shifted views."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import assume, given
from numpy.testing import assert_allclose

from cnn.layers import BatchNorm, Chain, Dense, GlobalMaxPool, MaxPool
from cnn.ops.cpu.pool import max_pool
from cnn.ops.implementations import use
from tests.conftest import FOR_USERS
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


@pytest.mark.parametrize("seed", [0, 1])
def test_no_gradient_is_lost_where_a_compiler_rounds_the_input_twice(seed: int) -> None:
    """XLA computes the first normalization in two programs, and rounds it in two ways.

    Compared with the maximum of the other, no tap was the largest, and the gradient was lost there:
    it differed by 1 to 8 %.
    """
    model = Chain((BatchNorm(), MaxPool(2, 1, 1), BatchNorm(), GlobalMaxPool(), Dense(10)))
    rng = np.random.default_rng(seed)
    x, y = rng.standard_normal((64, 4, 1)).astype(np.float32), rng.integers(0, 10, 64)
    made = model.init(jax.random.key(0), x)
    params = jax.tree.map(
        lambda w: w + 0.1 * rng.standard_normal(w.shape).astype(np.float32), made["params"]
    )

    def loss(x: jax.Array, params: dict) -> jax.Array:
        variables = {**made, "params": params}
        logits, _ = model.apply(variables, x, train=True, mutable=["batch_stats"])
        return optax.softmax_cross_entropy_with_integer_labels(logits, y).mean()

    found = {}
    for implementation in ("reference", "fastest"):
        with use(implementation):
            gradient = jax.jit(jax.grad(loss), compiler_options=FOR_USERS)
            found[implementation] = gradient(x, params)
    assert_allclose(found["fastest"], found["reference"], rtol=1e-4, atol=1e-7)
