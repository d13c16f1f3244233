"""The pure step against NumPy, and the pieces of the recipe against their formulas."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from cnn.layers import Chain, Dense, Dropout, Flatten
from cnn.recipe import Recipe
from cnn.train.devices import device_map
from cnn.train.state import init_state
from cnn.train.step import (
    Batch,
    cross_entropy,
    evaluate_batch,
    learning_rate,
    optimizer,
    train_step,
)


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def one_step(recipe: Recipe, x: np.ndarray, y: np.ndarray, count: int = 1):
    """The parameters of a linear classifier before and after one mapped step."""
    net, tx = Chain((Flatten(), Dense(3))), optimizer(recipe)
    state = init_state(net, tx, x.shape[1:], seed=0)
    devices = device_map("shard_map", count)
    step = partial(train_step, net, tx, recipe.label_smoothing)
    run = devices.compile(lambda s, _, b: step(s, b), False)
    after, metrics = run(devices.replicate(state), devices.replicate(0), devices.split(Batch(x, y)))
    return state.params["layers_1"], after.params["layers_1"], metrics


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sgd_step_is_the_formula(count: int, smoothing: float) -> None:
    """W ← W - η (1 + μ) (∇ + λ W), the first step of Nesterov momentum; no decay on the bias."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 5, 1)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
    recipe = Recipe(optimizer="sgd", lr=0.1, weight_decay=0.01, label_smoothing=smoothing)
    before, after, metrics = one_step(recipe, x, y, count)
    w, b, flat = np.asarray(before["kernel"]), np.asarray(before["bias"]), x.reshape(8, 5)
    p = softmax(flat @ w + b)
    target = (1 - smoothing) * np.eye(3)[y] + smoothing / 3
    grad = (p - target) / 8
    np.testing.assert_allclose(
        after["kernel"], w - 0.1 * 1.9 * (flat.T @ grad + 0.01 * w), rtol=1e-5, atol=1e-6
    )
    np.testing.assert_allclose(after["bias"], b - 0.1 * 1.9 * grad.sum(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(metrics["loss"], -(target * np.log(p)).sum(1).mean(), rtol=1e-5)
    assert metrics["accuracy"] == pytest.approx((p.argmax(1) == y).mean())


def test_first_adam_step_moves_every_weight_by_the_rate() -> None:
    """m̂ / √v̂ = sign(∇) at the first step (Kingma & Ba 2015, algorithm 1)."""
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((8, 5, 1)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
    before, after, _ = one_step(Recipe(optimizer="adam", lr=1e-3), x, y)
    moved = np.abs(np.asarray(after["kernel"]) - np.asarray(before["kernel"]))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-3)


def test_cross_entropy_by_hand() -> None:
    """Logits (0, ln 3) mean probabilities 1/4 and 3/4."""
    logits = jnp.array([[0.0, np.log(3.0)]])
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1])), [-np.log(3 / 4)], rtol=1e-6)
    smooth = -(0.95 * np.log(3 / 4) + 0.05 * np.log(1 / 4))
    np.testing.assert_allclose(cross_entropy(logits, jnp.array([1]), 0.1), [smooth], rtol=1e-6)


def test_learning_rates() -> None:
    rate = learning_rate(Recipe(lr=2.0, schedule="cosine", steps=110, warmup=10))
    # Linear to 2 at step 10, then half a cosine to 0 at step 110.
    for step, expected in [(0, 0.0), (5, 1.0), (10, 2.0), (60, 1.0), (110, 0.0)]:
        assert float(rate(step)) == pytest.approx(expected, abs=1e-6)
    assert float(learning_rate(Recipe(lr=0.3))(12345)) == pytest.approx(0.3)


def test_dropout_key_is_a_function_of_seed_and_step() -> None:
    x, y = np.ones((4, 6, 1), np.float32), np.zeros(4, np.int32)
    net, tx = Chain((Flatten(), Dropout(0.5), Dense(3))), optimizer(Recipe(optimizer="sgd"))
    run = device_map("shard_map", 1).compile(
        lambda s, _, b: train_step(net, tx, 0.0, s, b)[1]["loss"], False
    )
    state = init_state(net, tx, (6, 1), seed=0)
    first = run(state, 0, Batch(x, y))
    assert first == run(state, 0, Batch(x, y))
    assert first != run(state.replace(step=jnp.int32(1)), 0, Batch(x, y))


def test_weight_zero_leaves_an_example_out_of_evaluation() -> None:
    net, tx = Chain((Flatten(), Dense(3))), optimizer(Recipe())
    state = init_state(net, tx, (2, 1), seed=0)
    x, y = np.ones((3, 2, 1), np.float32), np.array([0, 1, 2], np.int32)
    run = device_map("shard_map", 1).compile(
        lambda s, _, share: evaluate_batch(net, s, share[0], share[1]), False
    )
    every = run(state, 0, (Batch(x, y), np.ones(3, np.float32)))
    assert every["accuracy"] == 1  # three equal examples, three labels: one is right
    logits = net.apply(state.variables, x)
    two = run(state, 0, (Batch(x, y), np.array([1, 1, 0], np.float32)))
    np.testing.assert_allclose(two["loss"], cross_entropy(logits, y)[:2].sum(), rtol=1e-6)
    assert not np.isclose(every["loss"], two["loss"])
    assert jax.tree.all(jax.tree.map(lambda a: a.shape == (), two))


def test_beta_lasso_pulls_kernels_to_zero_and_cuts_small_ones_off() -> None:
    """One step of 0.1 with λ = 0.01: 0.9 − 0.1 (1 + 0.01) = 0.799; 0.5 or less is cut off."""
    tx = optimizer(Recipe(optimizer="beta-lasso", lr=0.1, weight_decay=0.01))
    params = {"kernel": jnp.array([0.9, 0.6]), "bias": jnp.array([0.1])}
    grads = jax.tree.map(jnp.ones_like, params)
    updates, _ = tx.update(grads, tx.init(params), params)
    after = jax.tree.map(jnp.add, params, updates)
    np.testing.assert_allclose(after["kernel"], [0.799, 0.0], atol=1e-6)
    np.testing.assert_allclose(after["bias"], [0.0], atol=1e-6)
