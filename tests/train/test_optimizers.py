"""Learning-rate schedules, and β-LASSO: steps by hand, and its sparse solution."""

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from cnn.errors import InputError
from cnn.train.optimizers import beta_lasso, make_optimizer, make_schedule
from cnn.train.recipe import Recipe


def test_beta_lasso_by_hand() -> None:
    """η 0.5, λ 0.2, β 2: a pull of 0.1 a step, and nothing between -0.4 and 0.4 remains."""
    params = {"kernel": jnp.array([1.0, -1.0, 0.5, 0.45, 0.0, 0.8]), "bias": jnp.array([0.1])}
    grads = {"kernel": jnp.array([0.0, 0.4, -0.4, 0.0, 0.2, 2.0]), "bias": jnp.array([0.0])}
    tx = beta_lasso(optax.sgd(0.5), strength=0.2, beta=2.0)
    updates, _ = tx.update(grads, tx.init(params), params)
    new = optax.apply_updates(params, updates)
    np.testing.assert_allclose(new["kernel"], [0.9, -1.1, 0.6, 0.0, 0.0, 0.0], rtol=1e-6)
    assert (np.asarray(new["kernel"])[3:] == 0).all()  # to the bit, not nearly
    np.testing.assert_array_equal(new["bias"], params["bias"])


def test_beta_lasso_finds_the_sparse_solution() -> None:
    """∇f = θ - target: it ends at target - λ sign, or at zero where that is within βλ."""
    target = jnp.array([1.0, -1.0, 0.3, 0.05])
    tx = beta_lasso(optax.sgd(0.1), strength=0.01, beta=20.0)
    params = {"kernel": jnp.array([0.5, -0.5, 0.5, 0.5])}
    state = tx.init(params)
    for _ in range(150):
        updates, state = tx.update({"kernel": params["kernel"] - target}, state, params)
        params = optax.apply_updates(params, updates)
    np.testing.assert_allclose(params["kernel"], [0.99, -0.99, 0.29, 0.0], atol=1e-5)


def test_beta_lasso_of_strength_zero_is_the_optimizer_inside() -> None:
    params = {"kernel": jnp.array([1.0, -2.0])}
    grads = {"kernel": jnp.array([0.5, 3.0])}
    steps = []
    for tx in (optax.adam(0.1), beta_lasso(optax.adam(0.1), 0.0, 50.0)):
        steps.append(tx.update(grads, tx.init(params), params)[0]["kernel"])
    np.testing.assert_array_equal(*steps)


@pytest.mark.parametrize("wrong", [{"strength": -1.0}, {"beta": -1.0}, {"beta": float("nan")}])
def test_beta_lasso_refuses(wrong: dict) -> None:
    with pytest.raises(InputError, match=f"{next(iter(wrong))} must be 0 or more, got"):
        beta_lasso(optax.sgd(0.1), **({"strength": 1.0, "beta": 1.0} | wrong))


def test_learning_rates() -> None:
    rate = make_schedule(Recipe(lr=2.0, schedule="cosine", steps=110, warmup=10))
    # Linear to 2 at step 10, then half a cosine to 0 at step 110.
    for step, expected in [(0, 0.0), (5, 1.0), (10, 2.0), (60, 1.0), (110, 0.0)]:
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)
    assert float(make_schedule(Recipe(lr=0.3))(12345)) == pytest.approx(0.3)


def test_one_cycle() -> None:
    """Half a cosine from lr / 25 to lr at three tenths, another to lr / 250,000 at the end."""
    rate = make_schedule(Recipe(lr=2.0, schedule="one-cycle", steps=100))
    for step, expected in [(0, 0.08), (15, 1.04), (30, 2.0), (65, 1.000004), (100, 8e-6)]:
        assert float(rate(step)) == pytest.approx(expected, rel=1e-4)


def test_beta_lasso_pulls_kernels_to_zero_and_cuts_small_ones_off() -> None:
    """One step of 0.1 with λ = 0.01: 0.9 − 0.1 (1 + 0.01) = 0.799; 0.5 or less is cut off."""
    tx = make_optimizer(Recipe(optimizer="beta-lasso", lr=0.1, weight_decay=0.01))
    params = {"kernel": jnp.array([0.9, 0.6]), "bias": jnp.array([0.1])}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(grads, tx.init(params), params, lr=1.0)
    after = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(after["kernel"], [0.799, 0.0], atol=1e-6)
    np.testing.assert_allclose(after["bias"], [0.0], atol=1e-6)
