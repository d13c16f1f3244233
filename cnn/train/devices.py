"""Map a per-device function over devices by `shard_map` or `pmap`; results agree bit by bit.

A per-device function is `f(states, data, batch) -> result`. `states` and `result` have one entry
per seed, and `f` averages or sums the result over the axis "data". `data` is the same on every
device. Of each array of `batch` a device sees the part that a `PartitionSpec` gives it.

All devices split the batch. With several groups, each group trains seeds of its own, and the
devices of a group split the batch. Small networks, whose devices would wait for each other longer
than they compute, are fastest with one device per group. The devices may belong to several
processes (hosts); each process provides only what its devices need.
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
"""For arrays `(batch, ...)`: devices split the batch, all seeds use the same examples."""
BY_EXAMPLE_AND_SEED = PartitionSpec("data", None, "seed")
"""For arrays `(batch, steps, seeds, ...)`."""
CPU_COMPILER_OPTIONS = {"xla_backend_optimization_level": 2}
"""XLA optimization level (0 to 3). Level 2 compiles the small VGG in 9 s, level 3 in 15 s, and the
step is as fast."""


class DeviceMap(NamedTuple):
    """The devices, and the functions that place arrays on them and compile for them."""

    group_size: int
    """Devices that split a batch."""
    groups: int
    """Groups of devices that share the seeds."""
    platform: str
    sharding: Callable[[PartitionSpec], Sharding | None]
    """The sharding of arrays with this spec; None for pmap."""
    replicate: Callable[[Tree], Tree]
    """Put arrays on every device."""
    shard: Callable[[Tree, PartitionSpec], Tree]
    """Split the axes of every array over the devices."""
    put_states: Callable[[Tree], Tree]
    """Put the states of all seeds on the devices that train them."""
    compile: Callable[[PerDevice, PartitionSpec, bool], Callable[..., Tree]]
    """Compile `f` for batches with this spec. If True, donate `states`: reuse their memory."""
    unreplicate: Callable[[Tree], Tree]
    """Return states or results as plain arrays, one per seed, without copies."""


def device_map(kind: str, count: int | None = None, groups: int = 1) -> DeviceMap:
    """Return the map of this `kind` over the first `count` devices, or all, in equal `groups`.

    Raises:
        InputError: For more devices than there are, groups that do not divide them, and what `pmap`
            or several processes do not support.
    """
    devices = jax.devices()
    if count is not None and jax.process_count() > 1:
        raise InputError(f"devices must not be set with several processes, got {count}")
    if count is not None and count > len(devices):
        raise InputError(f"devices must be at most the {len(devices)} available, got {count}")
    devices = devices[:count]
    if len(devices) % groups:
        raise InputError(f"seed_groups must divide the {len(devices)} devices, got {groups}")
    if kind == "shard_map":
        return by_shard_map(devices, groups)
    if groups > 1 or jax.process_count() > 1:
        raise InputError("map_devices must be shard_map for several groups or processes, got pmap")
    return by_pmap(devices)


def by_shard_map(devices: Sequence[jax.Device], groups: int) -> DeviceMap:
    """Map with `jit(shard_map(f))`. Arrays are global and carry their sharding."""
    mesh = Mesh(np.asarray(devices).reshape(groups, -1), ("seed", "data"))
    replicated = NamedSharding(mesh, PartitionSpec())
    by_group = PartitionSpec("seed") if groups > 1 else PartitionSpec()
    platform = devices[0].platform

    def stack(states: Sequence[Tree]) -> tuple[Tree, ...]:
        # Each group has its seeds in order: with 2 groups of 3, the first stack is seeds 0 and 3.
        per_group = len(states) // groups
        stacks = (states[i::per_group] for i in range(per_group))
        return tuple(jax.tree.map(lambda *leaves: jnp.stack(leaves), *stack) for stack in stacks)

    def unstack(stacks: Sequence[Tree]) -> tuple[Tree, ...]:
        return tuple(
            jax.tree.map(lambda a, group=group: a[group], stack)
            for group in range(groups)
            for stack in stacks
        )

    def compile_(f: PerDevice, spec: PartitionSpec, donate: bool) -> Callable[..., Tree]:
        # With check_vma=True gradients of replicated parameters arrive already summed, and the
        # step's own pmean would scale them by the number of devices without an error.
        mapped = jax.shard_map(
            _no_fusion(f if groups == 1 else _per_group(f)),
            mesh=mesh,
            in_specs=(by_group, PartitionSpec(), spec),
            out_specs=by_group,
            check_vma=False,
        )
        options = CPU_COMPILER_OPTIONS if platform == "cpu" else None
        return jax.jit(mapped, donate_argnums=0 if donate else (), compiler_options=options)

    return DeviceMap(
        group_size=len(devices) // groups,
        groups=groups,
        platform=platform,
        sharding=lambda spec: NamedSharding(mesh, spec),
        replicate=lambda tree: _put(tree, replicated),
        shard=lambda tree, spec: _put(tree, NamedSharding(mesh, spec)),
        put_states=jax.jit(stack, out_shardings=NamedSharding(mesh, by_group))
        if groups > 1
        else lambda states: jax.device_put(states, replicated),
        compile=compile_,
        unreplicate=jax.jit(unstack, out_shardings=replicated) if groups > 1 else lambda tree: tree,
    )


def _per_group(f: PerDevice) -> PerDevice:
    """Remove the leading axis over the groups, which has size 1 on a device, and restore it."""

    def per_group(states: Tree, data: Tree, batch: Tree) -> Tree:
        result = f(jax.tree.map(lambda a: a[0], states), data, batch)
        return jax.tree.map(lambda a: a[None], result)

    return per_group


def _put(tree: Tree, sharding: Sharding) -> Tree:
    """Put NumPy arrays that every process holds on the devices of all processes."""
    if jax.process_count() == 1:
        return jax.device_put(tree, sharding)

    def put(a: np.ndarray) -> jax.Array:
        return jax.make_array_from_callback(a.shape, sharding, lambda part: a[part])

    return jax.tree.map(put, tree)


def by_pmap(devices: Sequence[jax.Device]) -> DeviceMap:
    """Map with `pmap(f)`. Arrays have a leading axis with one copy per device."""

    def shard(tree: Tree, spec: PartitionSpec) -> Tree:
        return jax.tree.map(lambda a: a.reshape(len(devices), -1, *a.shape[1:]), tree)

    def compile_(f: PerDevice, spec: PartitionSpec, donate: bool) -> Callable[..., Tree]:
        donated = 0 if donate else ()
        return jax.pmap(_no_fusion(f), axis_name="data", devices=devices, donate_argnums=donated)

    def replicate(tree: Tree) -> Tree:
        # Without the axis name the first call would compile twice.
        return jax_utils.replicate(tree, list(devices), axis_name="data")

    return DeviceMap(
        group_size=len(devices),
        groups=1,
        platform=devices[0].platform,
        sharding=lambda spec: None,
        replicate=replicate,
        shard=shard,
        put_states=replicate,
        compile=compile_,
        # jax_utils.unreplicate would keep the leading axis of a copy on one of several devices.
        unreplicate=lambda tree: jax.tree.map(
            lambda a: a.addressable_shards[0].data.reshape(a.shape[1:]), tree
        ),
    )


def _no_fusion(f: PerDevice) -> PerDevice:
    """Keep XLA from fusing `f` with what a map adds around it, which would round differently."""

    def without_fusion(states: Tree, data: Tree, batch: Tree) -> Tree:
        return lax.optimization_barrier(f(*lax.optimization_barrier((states, data, batch))))

    return without_fusion
