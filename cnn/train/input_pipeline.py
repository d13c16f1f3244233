"""How examples reach the devices: all of them once, or step by step.

A split within the budget (`cnn.data.lazy.BUDGET`) is copied to every device, and each step receives
row numbers. Otherwise Grain's threads read the rows that this process's devices need, some steps
ahead, and the next step's examples are transferred while the current one computes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import jax
import numpy as np
from etils import epy
from jax.sharding import PartitionSpec, Sharding

from cnn.data import Split
from cnn.data.lazy import LazyArray, fits_budget
from cnn.errors import InputError
from cnn.train.devices import DeviceMap
from cnn.train.host_transforms import transform_examples
from cnn.train.step import Batch

with epy.lazy_imports():  # takes 2 s to import, and small data sets do not need it
    import grain

if TYPE_CHECKING:
    from cnn.train.host_transforms import Transform

THREADS, PREFETCH_STEPS = 8, 8
"""Threads that read examples, and the steps that they may be ahead."""

RowsOf = Callable[[int, int], np.ndarray]
"""`(start, length)` → the row numbers of `length` steps from step `start` on."""


def on_device(split: Split) -> bool:
    """Return whether the whole split is kept on the devices."""
    return not isinstance(split.x, LazyArray) and fits_budget(len(split), split.x.shape[1:])


def describe_inputs(split: Split, transforms: Sequence[Transform] = ()) -> str:
    """Return in words how the examples reach the devices."""
    if on_device(split) and not transforms:
        return "data on the device"
    source = "files" if isinstance(split.x, LazyArray) else "memory"
    return f"data read from {source} step by step"


def make_inputs(
    split: Split,
    devices: DeviceMap,
    spec: PartitionSpec,
    steps: range,
    rows: RowsOf,
    transforms: Sequence[Transform] = (),
    seeds: Sequence[int] = (),
) -> tuple[Any, Callable[[int, int], Any]]:
    """Return `(data, batches)`: the whole split on every device, or `()`, and the inputs by step.

    `batches(start, length)` returns the row numbers or the examples of these steps, split over the
    devices by `spec`. Without `data`, call it for one step after another.

    With `transforms` the examples are read and changed step by step, whatever their size. `seeds`
    are those of the last axis of the rows.

    Raises:
        InputError: If the examples are read step by step and the map is `pmap`.
    """
    if on_device(split) and not transforms:
        data = devices.replicate(_examples(split))
        return data, lambda start, length: devices.shard(rows(start, length), spec)
    sharding = devices.sharding(spec)
    if sharding is None:
        why = "transforms" if transforms else "data that exceed the device"
        raise InputError(f"map_devices must be shard_map for {why}, got pmap")
    batches = _prefetch(split, sharding, steps, rows, transforms, seeds)
    return (), lambda start, length: next(batches)


def _prefetch(
    split: Split,
    sharding: Sharding,
    steps: range,
    rows: RowsOf,
    transforms: Sequence[Transform],
    seeds: Sequence[int],
) -> Iterator[Batch]:
    def examples_of(wanted: np.ndarray, part: Any, step: int) -> Batch:
        examples = _examples(split, wanted[part])
        if not transforms:
            return examples
        place, _, seed = np.indices(wanted.shape)
        keys = np.stack([np.take(seeds, seed), np.full(wanted.shape, step), place], axis=-1)
        return transform_examples(transforms, examples, keys[part])

    def read(step: int) -> tuple[tuple[int, ...], dict[Any, Batch]]:
        wanted = rows(step, 1)
        parts = sharding.addressable_devices_indices_map(wanted.shape).values()
        local = {_bounds(part): part for part in parts if part is not None}
        return wanted.shape, {
            bounds: examples_of(wanted, part, step) for bounds, part in local.items()
        }

    def put(shape: tuple[int, ...], examples: dict[Any, Batch]) -> Batch:
        def array(name: str, *example_shape: int) -> jax.Array:
            def part_of(index: Any) -> Any:
                return getattr(examples[_bounds(index[: len(shape)])], name)

            return jax.make_array_from_callback((*shape, *example_shape), sharding, part_of)

        return Batch(array("x", *split.x.shape[1:]), array("y", *split.y.shape[1:]))

    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=PREFETCH_STEPS)
    source = grain.MapDataset.range(steps.start, steps.stop).map(read).to_iter_dataset(options)
    pending: list[Batch] = []
    for element in source:
        pending.append(put(*element))
        if len(pending) == 2:
            yield pending.pop(0)
    yield from pending


def _examples(split: Split, rows: Any = ...) -> Any:
    return Batch(split.x[rows], split.y[rows])  # type: ignore[arg-type]  # still NumPy arrays


def _bounds(index: tuple[slice, ...]) -> tuple[tuple[Any, Any], ...]:
    return tuple((s.start, s.stop) for s in index)
