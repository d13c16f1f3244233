"""The pure step against NumPy, and the pieces of the recipe against their formulas."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from optax.tree_utils import tree_get

from cnn.data.augment import mix
from cnn.layers import Chain, Conv, Dense, Dropout, Flatten, MaxPool, ReLU
from cnn.ops import implementations
from cnn.train import fit
from cnn.train.compile import programs
from cnn.train.devices import BY_EXAMPLE, device_map
from cnn.train.losses import cross_entropy
from cnn.train.optimizers import make_optimizer
from cnn.train.recipe import Recipe
from cnn.train.state import init_state
from cnn.train.step import (
    AUGMENTATION,
    REMAT_POLICY,
    Batch,
    evaluate_batch,
    forward,
    train_step,
)
from tests.small import assert_close, config, model

NESTEROV: dict[str, Any] = {
    "optimizer": "sgd",
    "optimizer_args": ("momentum=0.9", "nesterov=true"),
}


def softmax(z: np.ndarray) -> np.ndarray:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def one_step(recipe: Recipe, x: np.ndarray, y: np.ndarray, count: int = 1):
    """The parameters of a linear classifier before and after one mapped step."""
    net, tx = Chain((Flatten(), Dense(3))), make_optimizer(recipe)
    state = init_state(net, tx, x.shape[1:], seed=0)
    devices = device_map("shard_map", count)
    step = partial(train_step, net, tx, recipe)
    run = devices.compile(lambda s, _, b: step(s, b), BY_EXAMPLE, False)
    share = devices.shard(Batch(x, y), BY_EXAMPLE)
    after, metrics = run(devices.put_states(state), devices.replicate(0), share)
    return state.params["layers_1"], after.params["layers_1"], metrics


@pytest.mark.parametrize("count", [1, 2, 4])
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_sgd_step_is_the_formula(count: int, smoothing: float) -> None:
    """W ← W - η (1 + μ) (∇ + λ W), the first step of Nesterov momentum; no decay on the bias."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 5, 1)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
    recipe = Recipe(
        **NESTEROV,
        lr=0.1,
        weight_decay=0.01,
        label_smoothing=smoothing,
    )
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
    before, after, _ = one_step(Recipe(optimizer="adamw", lr=1e-3), x, y)
    moved = np.abs(np.asarray(after["kernel"]) - np.asarray(before["kernel"]))
    np.testing.assert_allclose(moved, 1e-3, rtol=1e-3)


def test_first_adadelta_step() -> None:
    """Δ = √ε / √(0.1 g² + ε) · g with g = ∇ + λ W, ε = 1e-6 (Zeiler 2012, algorithm 1)."""
    rng = np.random.default_rng(2)
    x, y = rng.standard_normal((8, 5, 1)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
    before, after, _ = one_step(Recipe(optimizer="adadelta", lr=2.0, weight_decay=0.1), x, y)
    w, flat = np.asarray(before["kernel"]), x.reshape(8, 5)
    grad = flat.T @ (softmax(flat @ w + np.asarray(before["bias"])) - np.eye(3)[y]) / 8 + 0.1 * w
    moved = 2 * grad * np.sqrt(1e-6 / (0.1 * grad**2 + 1e-6))
    np.testing.assert_allclose(np.asarray(after["kernel"]) - w, -moved, rtol=1e-3, atol=1e-7)


def test_clipping_keeps_the_direction_of_the_whole_gradient() -> None:
    """W ← W - η (1 + μ) c ∇ / |∇|, |∇| over kernel and bias together."""
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 5, 1)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
    before, after, _ = one_step(Recipe(**NESTEROV, lr=0.1, clip_norm=0.01), x, y)
    w, b, flat = np.asarray(before["kernel"]), np.asarray(before["bias"]), x.reshape(8, 5)
    error = (softmax(flat @ w + b) - np.eye(3)[y]) / 8
    grads = flat.T @ error, error.sum(0)
    norm = np.sqrt(sum((g**2).sum() for g in grads))
    assert norm > 0.01
    for name, start, grad in zip(("kernel", "bias"), (w, b), grads, strict=True):
        moved = np.asarray(after[name]) - start
        np.testing.assert_allclose(moved, -0.1 * 1.9 * 0.01 * grad / norm, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("count", [1, 2])
def test_a_batch_in_parts_is_the_whole_batch(count: int) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal((8, 5, 1)).astype(np.float32), rng.integers(0, 3, 8).astype(np.int32)
    whole, parts = (Recipe(**NESTEROV, lr=0.1, accumulate=n) for n in (1, 4))
    (_, one, measured), (_, other, too) = one_step(whole, x, y), one_step(parts, x, y, count)
    assert_close((one, measured), (other, too), 1e-6)


def test_remat_keeps_the_pooled_maps_and_moves_the_weights_alike() -> None:
    """Of 4×4 maps with 3 channels and what ReLU and pooling make of them, kept are the 2×2 ones."""
    net = Chain((Conv(3, (3, 3), padding=1), ReLU(), MaxPool((2, 2)), Flatten(), Dense(3)))
    x = jax.random.normal(jax.random.key(0), (5, 4, 4, 1))
    weights = net.init(jax.random.key(1), x)

    def kept(policy: object) -> set[tuple[int, ...]]:
        f = jax.checkpoint(lambda w: net.apply(w, x).sum(), policy=policy)
        maps = jax.tree.leaves(jax.vjp(f, weights)[1])
        return {m.shape for m in maps if m.ndim == 4 and len(m) == 5 and m.shape[-1] == 3}

    with implementations.use("reference"):
        assert kept(REMAT_POLICY) == {(5, 2, 2, 3)}
        assert (5, 4, 4, 3) in kept(jax.checkpoint_policies.everything_saveable)
        recipes = [Recipe(**NESTEROV, lr=0.1, remat=remat) for remat in (False, True)]
        batch, after, forwards = Batch(x, jnp.arange(5) % 3), [], []
        for recipe in recipes:
            tx = make_optimizer(recipe)
            step = device_map("shard_map", 1).compile(
                lambda s, _, b, r=recipe, tx=tx: train_step(net, tx, r, s, b), BY_EXAMPLE, False
            )
            given = (init_state(net, tx, (4, 4, 1), seed=0), 0, batch)
            after.append(step(*given)[0].params)
            traced = step.trace(*given).jaxpr  # type: ignore[attr-defined]
            forwards.append(str(traced).count("conv_general_dilated["))
        assert_close(*after, 1e-6)
        assert forwards[1] == forwards[0] + 1


def test_the_state_has_a_learning_rate_of_its_own() -> None:
    net, tx = Chain((Flatten(), Dense(3))), make_optimizer(Recipe(lr=1.0, weight_decay=0.1))
    run = device_map("shard_map", 1).compile(
        lambda s, _, b: train_step(net, tx, Recipe(), s, b)[0], BY_EXAMPLE, False
    )
    batch = Batch(np.ones((4, 6, 1), np.float32), np.zeros(4, np.int32))

    def moved(lr: float) -> np.ndarray:
        state = init_state(net, tx, (6, 1), seed=0, lr=lr)
        after = run(state, 0, batch).params["layers_1"]["kernel"]
        return np.asarray(after - state.params["layers_1"]["kernel"])

    np.testing.assert_allclose(moved(0.5), 0.5 * moved(1.0), rtol=1e-5)
    shapes = (Recipe(lr=1e-3), Recipe(lr=1e-2), Recipe(lr=1e-2, ema=0.5))
    same, shared, other = (programs(net, recipe, (6, 1)) for recipe in shapes)
    assert same is shared
    assert same is not other


def test_bfloat16_rounds_what_is_computed_and_nothing_that_is_kept() -> None:
    """1 + 2⁻⁸ lies half-way between two bfloat16 and goes to the even one, 1."""
    net, low = Chain((Flatten(), Dense(2))), Recipe(precision="bfloat16")
    odd = jnp.full((1, 1, 1), 1 + 2**-8, jnp.float32)
    weights = {"params": {"layers_1": {"kernel": jnp.ones((1, 2)), "bias": jnp.zeros(2)}}}
    assert forward(net, Recipe(), weights, odd)[0, 0] == 1 + 2**-8
    logits = forward(net, low, weights, odd)
    assert logits.dtype == jnp.bfloat16
    assert logits[0, 0] == 1
    result = fit(config(model=model(norm=True), steps=60, precision="bfloat16"))
    kept = (
        result.states[0].params,
        result.states[0].batch_stats,
        tree_get(result.states[0].opt_state, "nu"),
    )
    assert {leaf.dtype for leaf in jax.tree.leaves(kept)} == {jnp.dtype("float32")}
    assert result.test_accuracy[0] > 0.9


def test_the_average_is_its_formula_and_what_is_evaluated() -> None:
    """With d = 1/2, after three steps: (θ₁ / 4 + θ₂ / 2 + θ₃) / (1 / 4 + 1 / 2 + 1)."""
    results = [fit(config(model=model(norm=True), steps=n, ema=0.5)) for n in (1, 2, 3)]
    states = [result.states[0] for result in results]
    weights = [{"params": s.params, "batch_stats": s.batch_stats} for s in states]
    expected = jax.tree.map(lambda a, b, c: (a + 2 * b + 4 * c) / 7, *weights)
    assert_close(states[2].average, expected, 1e-6)
    test = config().data.test
    logits = model(norm=True).apply(expected, test.x)
    assert results[2].test_loss[0] == pytest.approx(
        float(cross_entropy(logits, test.y).mean()), rel=1e-5
    )


def test_dropout_is_a_function_of_seed_step_and_place_in_the_batch() -> None:
    x, y = np.ones((4, 6, 1), np.float32), np.zeros(4, np.int32)
    net, tx = (
        Chain((Flatten(), Dropout(0.5), Dense(3))),
        make_optimizer(Recipe(**NESTEROV)),
    )
    one, four = (
        device_map("shard_map", count).compile(
            lambda s, _, b: train_step(net, tx, Recipe(), s, b)[1]["loss"], BY_EXAMPLE, False
        )
        for count in (1, 4)
    )
    state = init_state(net, tx, (6, 1), seed=0)
    first = one(state, 0, Batch(x, y))
    assert first == one(state, 0, Batch(x, y))
    assert first != one(state.replace(step=jnp.int32(1)), 0, Batch(x, y))
    np.testing.assert_allclose(first, four(state, 0, Batch(x, y)), rtol=1e-6)


def test_weight_zero_leaves_an_example_out_of_evaluation() -> None:
    net, tx = Chain((Flatten(), Dense(3))), make_optimizer(Recipe())
    state = init_state(net, tx, (2, 1), seed=0)
    x, y = np.ones((3, 2, 1), np.float32), np.array([0, 1, 2], np.int32)
    run = device_map("shard_map", 1).compile(
        lambda v, _, share: evaluate_batch(net, Recipe(), v, share[0], share[1]), BY_EXAMPLE, False
    )
    every = run(state.variables, 0, (Batch(x, y), np.ones(3, np.float32)))
    assert every["accuracy"] == 1  # three equal examples, three labels: one is right
    logits = net.apply(state.variables, x)
    two = run(state.variables, 0, (Batch(x, y), np.array([1, 1, 0], np.float32)))
    np.testing.assert_allclose(two["loss"], cross_entropy(logits, y)[:2].sum(), rtol=1e-6)
    assert not np.isclose(every["loss"], two["loss"])
    assert jax.tree.all(jax.tree.map(lambda a: a.shape == (), two))


def test_mixed_examples_have_mixed_losses() -> None:
    """The loss of λ x + (1 - λ) x' is λ of the own label's and 1 - λ of the other's."""
    rng = np.random.default_rng(3)
    x, y = rng.standard_normal((4, 6, 1)).astype(np.float32), np.array([0, 1, 2, 2], np.int32)
    recipe = Recipe(optimizer="sgd", lr=0.1, augment=("mixup",))
    measured = {count: one_step(recipe, x, y, count) for count in (1, 2)}
    before, after, metrics = measured[1]
    assert_close(after, measured[2][1], 1e-6)
    state = init_state(Chain((Flatten(), Dense(3))), make_optimizer(recipe), (6, 1), seed=0)
    key = jax.random.fold_in(jax.random.fold_in(state.key, 0), AUGMENTATION)
    mixed, share = mix("mixup", jax.random.fold_in(key, 0), jnp.arange(4), jnp.asarray(x))
    w, b = (np.asarray(before[name]) for name in ("kernel", "bias"))
    logits = np.asarray(mixed).reshape(4, 6) @ w + b
    share, log_p = np.asarray(share), np.log(softmax(logits))
    both = [-log_p[np.arange(4), labels] for labels in (y, y[[1, 0, 3, 2]])]
    expected = (share * both[0] + (1 - share) * both[1]).mean()
    np.testing.assert_allclose(metrics["loss"], expected, rtol=1e-5)
