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
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import jax_utils
from jax import lax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec, Sharding

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
        return DeviceMap(devices, groups)
    if groups > 1 or jax.process_count() > 1:
        raise InputError("map_devices must be shard_map for several groups or processes, got pmap")
    return Pmap(devices, groups)


class DeviceMap:
    """Maps by `jit(shard_map(f))`. Arrays are global and carry their sharding.

    The devices form `groups`, which share the seeds; `group_size` devices split a batch.
    """

    def __init__(self, devices: Sequence[jax.Device], groups: int) -> None:
        self.groups, self.group_size = groups, len(devices) // groups
        self.count = len(devices)
        self.platform, self.devices = devices[0].platform, list(devices)
        self.mesh = Mesh(np.asarray(devices).reshape(groups, -1), ("seed", "data"))
        self._replicated = NamedSharding(self.mesh, PartitionSpec())
        self._by_group = PartitionSpec("seed") if groups > 1 else PartitionSpec()

        def stack(states: Sequence[Tree]) -> tuple[Tree, ...]:
            # Each group has its seeds in order: with 2 groups of 3, the first stack is seeds 0, 3.
            per_group = len(states) // groups
            stacks = (states[i::per_group] for i in range(per_group))
            return tuple(jax.tree.map(lambda *leaves: jnp.stack(leaves), *each) for each in stacks)

        def unstack(stacks: Sequence[Tree]) -> tuple[Tree, ...]:
            pairs = ((group, stack) for group in range(groups) for stack in stacks)
            return tuple(jax.tree.map(lambda a, g=g: a[g], stack) for g, stack in pairs)

        self._stack = jax.jit(stack, out_shardings=NamedSharding(self.mesh, self._by_group))
        self._unstack = jax.jit(unstack, out_shardings=self._replicated)

    def sharding(self, spec: PartitionSpec) -> Sharding | None:
        """Return the sharding of arrays with this spec; None for pmap."""
        return NamedSharding(self.mesh, spec)

    def shard(self, tree: Tree, spec: PartitionSpec) -> Tree:
        """Split the axes of NumPy arrays, which every process holds whole, over the devices."""
        sharding = NamedSharding(self.mesh, spec)
        if jax.process_count() == 1:
            return jax.device_put(tree, sharding)
        put = jax.make_array_from_callback
        return jax.tree.map(lambda a: put(a.shape, sharding, a.__getitem__), tree)

    def replicate(self, tree: Tree) -> Tree:
        """Put arrays on every device."""
        return self.shard(tree, PartitionSpec())

    def init_sharding(self, init: Callable[[int, float], Tree]) -> Tree:
        """Return the sharding of what `init(seed, lr)` returns; None for pmap."""
        return self.sharding(PartitionSpec())

    def put_states(self, tree: Tree) -> Tree:
        """Put the states of all seeds on the devices that train them."""
        return self._stack(tree) if self.groups > 1 else jax.device_put(tree, self._replicated)

    def compile(self, f: PerDevice, spec: PartitionSpec, donate: bool) -> Callable[..., Tree]:
        """Compile `f` for batches with this spec. If `donate`, reuse the memory of `states`."""

        def per_group(states: Tree, data: Tree, batch: Tree) -> Tree:
            # The axis over the groups has size 1 on a device.
            result = f(jax.tree.map(lambda a: a[0], states), data, batch)
            return jax.tree.map(lambda a: a[None], result)

        device_function = f if self.groups == 1 else per_group
        return self._jit(over_mesh(device_function, self.mesh, self._by_group, spec), donate)

    def _jit(self, f: PerDevice, donate: bool) -> Callable[..., Tree]:
        options = CPU_COMPILER_OPTIONS if self.platform == "cpu" else None
        return jax.jit(f, donate_argnums=0 if donate else (), compiler_options=options)

    def unreplicate(self, tree: Tree) -> Tree:
        """Return states or results as plain arrays, one per seed, without copies."""
        return self._unstack(tree) if self.groups > 1 else tree


class Pmap(DeviceMap):
    """Maps by `pmap(f)`. Arrays have a leading axis with one copy per device."""

    def sharding(self, spec: PartitionSpec) -> None:
        return None

    def shard(self, tree: Tree, spec: PartitionSpec) -> Tree:
        return jax.tree.map(lambda a: a.reshape(self.group_size, -1, *a.shape[1:]), tree)

    def replicate(self, tree: Tree) -> Tree:
        # Without the axis name the first call would compile twice.
        return jax_utils.replicate(tree, self.devices, axis_name="data")

    put_states = replicate

    def compile(self, f: PerDevice, spec: PartitionSpec, donate: bool) -> Callable[..., Tree]:
        mapped, donated = _no_fusion(f), 0 if donate else ()
        return jax.pmap(mapped, "data", devices=self.devices, donate_argnums=donated)

    def unreplicate(self, tree: Tree) -> Tree:
        # jax_utils.unreplicate would keep the leading axis of a copy on one of several devices.
        return jax.tree.map(lambda a: a.addressable_shards[0].data.reshape(a.shape[1:]), tree)


def over_mesh(
    f: PerDevice, mesh: Mesh | AbstractMesh, states: PartitionSpec, batch: PartitionSpec
) -> PerDevice:
    """Return `shard_map` of a per-device function, with the specs of its states and its batch."""
    # With check_vma=True gradients of replicated parameters arrive already summed, and the
    # step's own pmean would scale them by the number of devices without an error.
    mapped: PerDevice = jax.shard_map(
        _no_fusion(f),
        mesh=mesh,
        in_specs=(states, PartitionSpec(), batch),
        out_specs=states,
        check_vma=False,
    )
    return mapped


def _no_fusion(f: PerDevice) -> PerDevice:
    """Keep XLA from fusing `f` with what a map adds around it, which would round differently."""

    def without_fusion(states: Tree, data: Tree, batch: Tree) -> Tree:
        return lax.optimization_barrier(f(*lax.optimization_barrier((states, data, batch))))

    return without_fusion
