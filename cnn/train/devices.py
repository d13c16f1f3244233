"""The map of a per-device function over devices: `shard_map` or `pmap`, bit for bit alike.

A per-device function is `f(states, data, share) -> result`. `states` has one state for each seed
and so has the result, which `f` has averaged or summed over the axis named "data". `data` is the
same on every device; of every array of `share` a device has the part that `how` says.

Devices split the batch. With several `groups` they stand in a grid: each group trains seeds of its
own, and its devices split their batches. Small networks, for which devices wait for each other
longer than they compute, want as many groups as devices. The devices may be those of many
processes (hosts): each gives its own only what they need.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import jax_utils
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec, Sharding

from cnn.errors import InputError

Tree = Any
PerDevice = Callable[[Tree, Tree, Tree], Tree]
BY_EXAMPLE = PartitionSpec("data")
"""Arrays `(batch, ...)`, which devices split and all seeds share."""
BY_EXAMPLE_AND_SEED = PartitionSpec("data", None, "population")
"""Arrays `(batch, steps, seeds, ...)`."""
CPU_COMPILER_OPTIONS = {"xla_backend_optimization_level": 2}
"""Of at most 3: the small VGG's step compiles in 9 s for 15, and is as fast."""


class DeviceMap(NamedTuple):
    """The devices, and functions that belong together."""

    number: int
    """Devices that split a batch."""
    groups: int
    """Groups of so many devices, among which the seeds are shared out."""
    platform: str
    sharding: Callable[[PartitionSpec], Sharding | None]
    """Where arrays that are spread like this lie; None if that cannot be said."""
    replicate: Callable[[Tree], Tree]
    """Place arrays on every device."""
    split: Callable[[Tree, PartitionSpec], Tree]
    """Spread the axes of every array over the devices."""
    place: Callable[[Tree], Tree]
    """Place the states of the seeds on the devices that train them."""
    compile: Callable[[PerDevice, PartitionSpec, bool], Callable[..., Tree]]
    """Compile `f`, `how` its shares are split; if True, the memory of `states` is used again."""
    one: Callable[[Tree], Tree]
    """Return what `place` placed, or a result, as plain arrays, without the copies."""


def device_map(kind: str, count: int | None = None, groups: int = 1) -> DeviceMap:
    """Return the map over the first `count` devices, or over all, in so many groups.

    `kind` is "shard_map" or "pmap". Raises `InputError` for more devices than there are, for groups
    that do not divide them, and for what one of several processes, or `pmap`, cannot have.
    """
    devices = jax.devices()
    if count is not None and jax.process_count() > 1:
        raise InputError(f"devices {count} is for one process: several use all, leave it out")
    if count is not None and count > len(devices):
        raise InputError(f"devices {count} exceeds the {len(devices)} there are: give fewer")
    devices = devices[:count]
    if len(devices) % groups:
        raise InputError(f"seed_groups {groups} does not divide {len(devices)} devices")
    if kind == "shard_map":
        return by_shard_map(devices, groups)
    if groups > 1 or jax.process_count() > 1:
        raise InputError("map_devices 'pmap' is for one group in one process: use 'shard_map'")
    return by_pmap(devices)


def by_shard_map(devices: Sequence[jax.Device], groups: int) -> DeviceMap:
    """Map by `jit(shard_map(f))`: arrays stay whole, and know where they live."""
    mesh = Mesh(np.asarray(devices).reshape(groups, -1), ("population", "data"))
    everywhere = NamedSharding(mesh, PartitionSpec())
    by_group = PartitionSpec("population") if groups > 1 else PartitionSpec()
    platform = devices[0].platform

    def stack(states: Sequence[Tree]) -> tuple[Tree, ...]:
        # Groups have the seeds in order: with 2 groups of 3 the first states are of seeds 0 and 3.
        each = len(states) // groups
        return tuple(jax.tree.map(_stack, *states[i::each]) for i in range(each))

    def unstack(stacked: Sequence[Tree]) -> tuple[Tree, ...]:
        return tuple(
            jax.tree.map(lambda a, group=group: a[group], one)
            for group in range(groups)
            for one in stacked
        )

    def compile_(f: PerDevice, how: PartitionSpec, donate: bool) -> Callable[..., Tree]:
        # With check_vma=True gradients of replicated parameters arrive already summed, and the
        # step's own pmean would scale them by the number of devices without an error.
        mapped = jax.shard_map(
            _sealed(f if groups == 1 else _of_one_group(f)),
            mesh=mesh,
            in_specs=(by_group, PartitionSpec(), how),
            out_specs=by_group,
            check_vma=False,
        )
        options = CPU_COMPILER_OPTIONS if platform == "cpu" else None
        return jax.jit(mapped, donate_argnums=0 if donate else (), compiler_options=options)

    return DeviceMap(
        number=len(devices) // groups,
        groups=groups,
        platform=platform,
        sharding=lambda how: NamedSharding(mesh, how),
        replicate=lambda tree: _put(tree, everywhere),
        split=lambda tree, how: _put(tree, NamedSharding(mesh, how)),
        place=jax.jit(stack, out_shardings=NamedSharding(mesh, by_group))
        if groups > 1
        else lambda states: jax.device_put(states, everywhere),
        compile=compile_,
        one=jax.jit(unstack, out_shardings=everywhere) if groups > 1 else lambda tree: tree,
    )


def _stack(*leaves: jax.Array) -> jax.Array:
    return jnp.stack(leaves)


def _of_one_group(f: PerDevice) -> PerDevice:
    """Take off, and put on again, the axis over the groups, of which a device sees its own."""

    def of_one(states: Tree, data: Tree, share: Tree) -> Tree:
        result = f(jax.tree.map(lambda a: a[0], states), data, share)
        return jax.tree.map(lambda a: a[None], result)

    return of_one


def _put(tree: Tree, sharding: Sharding) -> Tree:
    """Place NumPy arrays that every process has; a process reads what its devices get."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(a: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(a.shape, sharding, lambda part: a[part])

    return jax.tree.map(put, tree)


def by_pmap(devices: Sequence[jax.Device]) -> DeviceMap:
    """Map by `pmap(f)`: arrays carry one copy per device in front."""

    def split(tree: Tree, how: PartitionSpec) -> Tree:
        def share(a: np.ndarray) -> np.ndarray:
            return a.reshape(len(devices), len(a) // len(devices), *a.shape[1:])

        return jax.tree.map(share, tree)

    def compile_(f: PerDevice, how: PartitionSpec, donate: bool) -> Callable[..., Tree]:
        donated = 0 if donate else ()
        return jax.pmap(_sealed(f), axis_name="data", devices=devices, donate_argnums=donated)

    def replicate(tree: Tree) -> Tree:
        # Without the axis name the first call would compile twice.
        return jax_utils.replicate(tree, list(devices), axis_name="data")

    return DeviceMap(
        number=len(devices),
        groups=1,
        platform=devices[0].platform,
        sharding=lambda how: None,
        replicate=replicate,
        split=split,
        place=replicate,
        compile=compile_,
        one=lambda tree: jax.tree.map(_first_copy, tree),
    )


def _first_copy(a: jax.Array) -> jax.Array:
    # flax.jax_utils.unreplicate keeps the leading axis of one copy on one of several devices.
    return a.addressable_shards[0].data.reshape(a.shape[1:])


def _sealed(f: PerDevice) -> PerDevice:
    """Keep what a map adds around `f` from being fused into it: it would round differently."""

    def sealed(states: Tree, data: Tree, share: Tree) -> Tree:
        return lax.optimization_barrier(f(*lax.optimization_barrier((states, data, share))))

    return sealed
