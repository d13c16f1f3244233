"""Training on 1, 2 and 4 devices, by shard_map and by pmap, is one computation."""

import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnn.errors import InputError
from cnn.layers import Chain, Conv, Dense, Dropout, GlobalMaxPool, ReLU
from cnn.train import fit
from cnn.train.devices import BY_EXAMPLE, BY_EXAMPLE_AND_SEED, device_map
from tests.small import assert_close, config, model


@pytest.mark.parametrize(
    "args",
    [
        pytest.param(["plain", "1", "2", "4"], marks=pytest.mark.slow),
        pytest.param(["norm", "1", "2"], marks=pytest.mark.slow),
        ["norm", "4"],
    ],
    ids=" ".join,
)
def test_maps_agree_bit_for_bit_and_device_counts_to_1e_5(args: list[str]) -> None:
    """In a process of its own: as these tests compile (conftest.py), the last bit may differ."""
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=4"}
    subprocess.run(
        [sys.executable, "-m", "tests.train.maps", *args],
        env=os.environ | flags,
        check=True,
        timeout=300,
    )


def test_examples_are_changed_alike_on_any_number_of_devices() -> None:
    recipe = {"augment": ("flip", "shift"), "steps": 5}
    one, four = (fit(config(**recipe, devices=n)).states[0].params for n in (1, 4))
    assert_close(one, four, 1e-5)
    with pytest.raises(AssertionError):
        assert_close(one, fit(config(steps=5)).states[0].params, 1e-4)


class Foreign(nn.Module):
    """A network of Flax's own layers, with dropout of units, and of the whole examples."""

    @nn.compact
    def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
        x = nn.relu(nn.Conv(4, (3,))(x)).reshape(len(x), -1)
        x = nn.Dropout(0.5, broadcast_dims=(1,), deterministic=not train)(x)
        return nn.Dense(2)(nn.Dropout(0.5, deterministic=not train)(x))


DROPPING = {
    "ours": Chain((Conv(4, (3,)), ReLU(), Dropout(0.5), GlobalMaxPool(), Dropout(0.5), Dense(2))),
    "foreign": Foreign(),
}


@pytest.mark.slow
@pytest.mark.parametrize("accumulate", [1, 2])
@pytest.mark.parametrize("name", DROPPING)
def test_dropout_is_the_same_on_any_number_of_devices(name: str, accumulate: int) -> None:
    """An example's mask depends on its place in the batch, and so do its crop and its flip."""
    recipe = {"model": DROPPING[name], "augment": ("flip", "shift"), "steps": 5, "lr": 1e-3}
    one, *others = (
        fit(config(**recipe, accumulate=parts, devices=devices)).states[0].params
        for devices, parts in ((1, 1), (2, accumulate), (4, accumulate))
    )
    for other in others:
        assert_close(one, other, 1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("groups", [2, 4])
def test_groups_of_devices_train_the_seeds_that_one_device_trains(
    groups: int, optimized: None
) -> None:
    """Four devices: two pairs that split their batches, or each with seeds of its own."""
    recipe = {"model": model(norm=True), "seeds": 4, "steps": 6}
    alone, together = fit(config(**recipe)), fit(config(**recipe, devices=4, seed_groups=groups))
    for a, b in zip(alone.states, together.states, strict=True):
        assert_close((a.params, a.batch_stats), (b.params, b.batch_stats), 1e-5)
        assert int(a.step) == int(b.step) == 6
    np.testing.assert_allclose(alone.train_loss, together.train_loss, rtol=1e-5)
    np.testing.assert_allclose(alone.test_accuracy, together.test_accuracy)
    assert len(set(alone.train_loss.tolist())) == 4


def test_each_group_has_its_seeds_in_order() -> None:
    """Six numbers stand for seeds, in two groups of two devices; shares have a column for each."""
    devices = device_map("shard_map", 4, 2)
    seeds = tuple(jax.numpy.asarray(float(i)) for i in range(6))
    share = devices.shard(np.ones((4, 1, 6)) * np.arange(6), BY_EXAMPLE_AND_SEED)
    placed = devices.put_states(seeds)
    assert [float(seed) for seed in devices.unreplicate(placed)] == [0, 1, 2, 3, 4, 5]

    def squares(states, data, share):
        mine = [state * share[:, 0, i].sum() for i, state in enumerate(states)]
        return jax.lax.psum(mine, "data")

    result = devices.unreplicate(
        devices.compile(squares, BY_EXAMPLE_AND_SEED, False)(placed, 0.0, share)
    )
    assert [float(value) for value in result] == [4.0 * i * i for i in range(6)]


def test_training_moves_the_parameters() -> None:
    """Without this the comparisons above would hold for a step that does nothing."""
    before, after = (fit(config(steps=n)).states[0].params for n in (0, 20))
    with pytest.raises(AssertionError):
        assert_close(before, after, 1e-2)


def test_too_many_devices() -> None:
    with pytest.raises(InputError, match=r"devices must be at most the \d+ available, got 99"):
        device_map("shard_map", 99)
    with pytest.raises(InputError, match="seed_groups must divide the 4 devices, got 3"):
        device_map("shard_map", 4, 3)
    with pytest.raises(InputError, match="map_devices must be shard_map for several groups"):
        device_map("pmap", 4, 2)
    with pytest.raises(InputError, match=r"seeds must be a multiple of seed_groups \(2\), got 3"):
        fit(config(devices=4, seeds=3, seed_groups=2))


@pytest.mark.parametrize("kind", ["shard_map", "pmap"])
def test_shard_and_unreplicate_undo_each_other(kind: str) -> None:
    devices = device_map(kind, 4)
    total = devices.compile(
        lambda carry, data, share: jax.lax.psum(share.sum() + data, "data"), BY_EXAMPLE, False
    )
    share = devices.shard(np.arange(8.0), BY_EXAMPLE)
    assert (
        devices.unreplicate(total(devices.put_states(0.0), devices.replicate(1.0), share)) == 28 + 4
    )
