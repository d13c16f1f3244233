"""How examples come to the devices: all of them once, or read ahead of the steps.

What fits the budget (`cnn.data.lazy.BUDGET`) lies on every device, and steps are sent the numbers
of rows. Of what does not, Grain reads in threads the rows that this process's devices will need,
some steps ahead, and the next step's examples go to the devices while this one computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import PartitionSpec, Sharding

from cnn.data import Split
from cnn.data.lazy import LazyArray, fits
from cnn.errors import InputError
from cnn.train.devices import DeviceMap
from cnn.train.step import Batch

THREADS, AHEAD = 16, 8
"""Threads that read, and the steps they may be ahead."""

Rows = Callable[[int, int], np.ndarray]
"""The row numbers of so many steps, from a step on."""


class Feed(NamedTuple):
    """What the programs are given."""

    data: Any
    """The whole split, on every device; or nothing."""
    share: Callable[[int, int], Any]
    """Rows, or examples, of so many steps from a step on. To be asked for in order."""


def is_resident(split: Split) -> bool:
    """Say whether the split lies on the devices."""
    return not isinstance(split.x, LazyArray) and fits(len(split), split.x.shape[1:])


def describe_inputs(split: Split) -> str:
    """Say in words how the examples come to the devices."""
    if is_resident(split):
        return "data on the device"
    return f"data read {'from files' if isinstance(split.x, LazyArray) else 'from memory'} step by step"


def feed(split: Split, devices: DeviceMap, how: PartitionSpec, steps: range, rows: Rows) -> Feed:
    """Return the feed of `steps`, spread over the devices by `how`.

    A split that is not resident is fed one step at a time. Raises `InputError` if its size asks for
    another map of devices.
    """
    if is_resident(split):
        data = devices.replicate(_examples(split))
        return Feed(data, lambda at, length: devices.split(rows(at, length), how))
    sharding = devices.sharding(how)
    if sharding is None:
        raise InputError("map_devices 'pmap' is for data that fit the device: use 'shard_map'")
    ahead = _read_ahead(split, sharding, steps, rows)
    return Feed((), lambda at, length: next(ahead))


def _read_ahead(split: Split, sharding: Sharding, steps: range, rows: Rows) -> Iterator[Batch]:
    import grain

    def read(at: int) -> tuple[tuple[int, ...], dict[Any, Batch]]:
        wanted = rows(at, 1)
        parts = sharding.addressable_devices_indices_map(wanted.shape).values()
        mine = {_bounds(part): wanted[part] for part in parts if part is not None}
        return wanted.shape, {k: _examples(split, r) for k, r in mine.items()}

    def place(shape: tuple[int, ...], examples: dict[Any, Batch]) -> Batch:
        def array(name: str, *more: int) -> jax.Array:
            def of(part: Any) -> Any:
                return getattr(examples[_bounds(part[: len(shape)])], name)

            return jax.make_array_from_callback((*shape, *more), sharding, of)

        return Batch(array("x", *split.x.shape[1:]), array("y"))

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=AHEAD)
    source = grain.MapDataset.range(steps.start, steps.stop).map(read).to_iter_dataset(options)
    placed = (place(*element) for element in source)
    now = next(placed, None)
    for following in placed:
        if now is not None:
            yield now
        now = following
    if now is not None:
        yield now


def _examples(split: Split, rows: Any = ...) -> Any:
    return Batch(split.x[rows], split.y[rows])  # type: ignore[arg-type]  # not on the devices yet


def _bounds(part: tuple[slice, ...]) -> tuple[tuple[Any, Any], ...]:
    return tuple((s.start, s.stop) for s in part)
