"""Seeds that train together get the results of seeds that train alone."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import pytest

from cnn.train import ensemble, fit
from cnn.train.devices import BY_EXAMPLE, BY_EXAMPLE_AND_SEED, device_map
from cnn.train.ensemble import compose
from cnn.train.optimizers import make_optimizer
from cnn.train.recipe import Recipe
from cnn.train.sampler import chunk_rows
from cnn.train.state import init_state
from cnn.train.step import Batch, train_step
from tests.small import assert_close, assert_same, config, model, waves


def test_a_seed_does_not_depend_on_the_others() -> None:
    together = fit(config(seed=3, seeds=3))
    assert together.seeds == (3, 4, 5)
    alone = fit(config(seed=4))
    assert_same(together.states[1].params, alone.states[0].params)
    assert together.test_accuracy[1] == alone.test_accuracy[0]


def test_groups_of_seeds_follow_each_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of large batches on a CPU, as many seeds as cores are side by side: here 3 as 2 and 1."""
    recipe = Recipe(optimizer="sgd", lr=1e-2)
    data, net, tx = waves(), model(), make_optimizer(recipe)
    batch = Batch(jnp.asarray(data.train.x), jnp.asarray(data.train.y))
    rows = jnp.asarray(chunk_rows(len(data.train.y), 8, (0, 1, 2), start=0, steps=1))
    states = tuple(init_state(net, tx, data.input_shape, seed) for seed in (0, 1, 2))

    def run() -> tuple[Any, str]:
        devices = device_map("shard_map", 1)
        chunk = compose(partial(train_step, net, tx, recipe), "cpu")
        program = devices.compile(chunk, BY_EXAMPLE_AND_SEED, False)
        return program(states, batch, rows), program.lower(states, batch, rows).as_text()

    together, text = run()
    assert 'inlineable = "false"' not in text
    monkeypatch.setattr(ensemble, "SMALL", 0)
    monkeypatch.setattr("os.cpu_count", lambda: 2)
    in_groups, text = run()
    assert text.count('inlineable = "false"') == 2
    for (state, metrics), (other, others) in zip(together, in_groups, strict=True):
        assert_close(state.params, other.params, 1e-6)  # they fuse differently
        assert_close(metrics["loss"], others["loss"], 1e-6)


@pytest.mark.parametrize("platform", ["cpu", "gpu"])
def test_a_chunk_is_its_steps_one_by_one(platform: str) -> None:
    """Both compositions, on this platform, against a plain loop over steps and seeds.

    Adam would scale a gradient that is only rounding to a full step.
    """
    recipe = Recipe(optimizer="sgd", lr=1e-2)
    data, net, tx = waves(), model(norm=True), make_optimizer(recipe)
    step = partial(train_step, net, tx, recipe)
    devices = device_map("shard_map", 1)
    batch = Batch(jnp.asarray(data.train.x), jnp.asarray(data.train.y))
    rows = chunk_rows(len(data.train.y), 8, (0, 1), start=0, steps=3)
    one = devices.compile(lambda state, b, r: step(state, Batch(b.x[r], b.y[r])), BY_EXAMPLE, False)

    def fresh():
        return [init_state(net, tx, data.input_shape, seed) for seed in (0, 1)]

    expected, losses = fresh(), []
    for k in range(3):
        pairs = [one(state, batch, rows[:, k, i]) for i, state in enumerate(expected)]
        expected = [state for state, _ in pairs]
        losses.append([metrics["loss"] for _, metrics in pairs])
    run = devices.compile(compose(step, platform), BY_EXAMPLE_AND_SEED, False)
    states, metrics = zip(*run(tuple(fresh()), batch, jnp.asarray(rows)), strict=True)
    # The compositions fuse differently, so they round differently.
    assert_close([m["loss"] for m in metrics], list(jnp.asarray(losses).T), 1e-5)
    for state, other in zip(states, expected, strict=True):
        assert_close(state.params, other.params, 1e-5)
        assert int(state.step) == 3
    assert_same(jax.random.key_data(states[0].key), jax.random.key_data(expected[0].key))


def test_a_step_is_traced_once_for_all_seeds() -> None:
    data, net, tx = waves(), model(), make_optimizer(Recipe(lr=1e-2))
    traced: list[bool] = []

    def step(state, batch):
        traced.append(True)
        return train_step(net, tx, Recipe(), state, batch)

    batch = Batch(jnp.asarray(data.train.x), jnp.asarray(data.train.y))
    rows = chunk_rows(len(data.train.y), 8, (0, 1, 2), start=0, steps=1)
    states = tuple(init_state(net, tx, data.input_shape, seed) for seed in (0, 1, 2))
    devices = device_map("shard_map", 1)
    devices.compile(compose(step, "cpu"), BY_EXAMPLE_AND_SEED, False)(states, batch, rows)
    assert len(traced) == 1
