"""Examples that are read step by step train the same weights as examples on the device."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import numpy as np
import pytest

from cnn.data import Dataset, Split, lazy
from cnn.data.lazy import LazyArray
from cnn.errors import InputError
from cnn.train import fit
from cnn.train.devices import BY_EXAMPLE, device_map
from cnn.train.input_pipeline import PREFETCH_STEPS, describe_inputs, make_inputs
from tests.small import assert_close, config, waves

read: list[int] = []


def in_files(data: Dataset) -> Dataset:
    """Return the set as lazy arrays of bytes; `read` lists the rows that are read."""

    def part(split: Split) -> Split:
        raw = (split.x * 32 + 128).clip(0, 255).astype(np.uint8)

        def examples(rows: np.ndarray) -> np.ndarray:
            read.extend(rows.tolist())
            return raw[rows]

        x = LazyArray("waves", examples, np.arange(len(split)), raw.shape[1:], (128.0,), (32.0,))
        return Split(x, split.y)

    return replace(data, train=part(data.train), test=part(data.test))


def in_memory(data: Dataset) -> Dataset:
    def part(split: Split) -> Split:
        return Split(split.x[np.arange(len(split))], split.y)

    return replace(data, train=part(data.train), test=part(data.test))


@pytest.fixture
def small_budget(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Make every split exceed the budget."""
    monkeypatch.setattr(lazy, "BUDGET", 0)
    yield


@pytest.mark.parametrize("devices", [{"devices": 1}, {"devices": 4, "seed_groups": 2}], ids=str)
def test_what_stays_in_files_trains_as_what_is_in_memory(devices: dict) -> None:
    recipe = {"seeds": 2, "steps": 7, "validate": True, **devices}
    lazy = in_files(waves())
    assert describe_inputs(in_memory(lazy).train) == "data on the device"
    assert describe_inputs(lazy.train) == "data read from files step by step"
    one, other = (fit(config(data=data, **recipe)) for data in (in_memory(lazy), lazy))
    for a, b in zip(one.states, other.states, strict=True):
        assert_close(a.params, b.params, 1e-6)
    np.testing.assert_allclose(one.test_loss, other.test_loss, rtol=1e-6)
    np.testing.assert_allclose(one.train_accuracy, other.train_accuracy)


def test_arrays_too_large_for_the_device_are_read_ahead_too(small_budget: None) -> None:
    result = fit(config(steps=150))
    assert result.test_accuracy[0] > 0.9


def test_only_what_is_wanted_is_read_and_a_few_steps_ahead() -> None:
    lazy = in_files(waves())
    read.clear()
    steps = [np.array([4, 5]), np.array([6, 7]), *(np.array([8, 9]) for _ in range(100))]
    resident, batches = make_inputs(
        lazy.train,
        device_map("shard_map", 2),
        BY_EXAMPLE,
        range(len(steps)),
        lambda at, _: steps[at],
    )
    assert resident == ()
    for expected in steps[:2]:
        batch = batches(0, 1)
        np.testing.assert_array_equal(batch.x, lazy.train.x[expected])
        np.testing.assert_array_equal(batch.y, lazy.train.y[expected])
        assert {d.shape for d in (s.data for s in batch.x.addressable_shards)} == {(1, 12, 1)}
    assert set(read) == {4, 5, 6, 7, 8, 9}
    assert len(read) < 2 * (PREFETCH_STEPS + 40)


def test_pmap_has_its_data_on_the_device(small_budget: None) -> None:
    with pytest.raises(
        InputError, match="map_devices must be shard_map for data that exceed the device"
    ):
        fit(config(map_devices="pmap"))
