"""The map of a per-device function over devices: `shard_map` or `pmap`, bit for bit alike.

A per-device function is `f(carry, data, share) -> result`. `carry` and `data` are the same on every
device, `share` holds this device's part of every array's first axis, and the result, which `f` has
averaged or summed over the axis named "data", is again the same on every device.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np
from flax import jax_utils
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from cnn.errors import InputError

Tree = Any
PerDevice = Callable[[Tree, Tree, Tree], Tree]


class DeviceMap(NamedTuple):
    """The devices, and four functions that belong together."""

    number: int
    platform: str
    replicate: Callable[[Tree], Tree]
    """Place a tree on every device."""
    split: Callable[[Tree], Tree]
    """Spread the first axis of every array over the devices."""
    compile: Callable[[PerDevice, bool], Callable[..., Tree]]
    """Compile a per-device function; if True, the memory of `carry` is used again (donated)."""
    one: Callable[[Tree], Tree]
    """Return a replicated tree as plain arrays, without the copies."""


def device_map(kind: str, count: int | None = None) -> DeviceMap:
    """Return the map over the first `count` devices, or over all.

    `kind` is "shard_map" or "pmap". Raises `InputError` for more devices than there are.
    """
    available = jax.devices()
    if count is not None and count > len(available):
        raise InputError(f"devices {count} exceeds the {len(available)} there are: give fewer")
    return {"shard_map": by_shard_map, "pmap": by_pmap}[kind](available[:count])


def by_shard_map(devices: Sequence[jax.Device]) -> DeviceMap:
    """Map by `jit(shard_map(f))`: arrays stay whole, and know where they live."""
    mesh = Mesh(np.asarray(devices), ("data",))
    everywhere, spread = PartitionSpec(), PartitionSpec("data")

    def compile_(f: PerDevice, donate: bool) -> Callable[..., Tree]:
        # With check_vma=True gradients of replicated parameters arrive already summed, and the
        # step's own pmean would scale them by the number of devices without an error.
        mapped = jax.shard_map(
            _sealed(f),
            mesh=mesh,
            in_specs=(everywhere, everywhere, spread),
            out_specs=everywhere,
            check_vma=False,
        )
        return jax.jit(mapped, donate_argnums=0 if donate else ())

    return DeviceMap(
        number=len(devices),
        platform=devices[0].platform,
        replicate=lambda tree: jax.device_put(tree, NamedSharding(mesh, everywhere)),
        split=lambda tree: jax.device_put(tree, NamedSharding(mesh, spread)),
        compile=compile_,
        one=lambda tree: tree,
    )


def by_pmap(devices: Sequence[jax.Device]) -> DeviceMap:
    """Map by `pmap(f)`: arrays carry one copy per device in front."""

    def split(tree: Tree) -> Tree:
        def share(a: np.ndarray) -> np.ndarray:
            return a.reshape(len(devices), len(a) // len(devices), *a.shape[1:])

        return jax.tree.map(share, tree)

    def compile_(f: PerDevice, donate: bool) -> Callable[..., Tree]:
        donated = 0 if donate else ()
        return jax.pmap(_sealed(f), axis_name="data", devices=devices, donate_argnums=donated)

    return DeviceMap(
        number=len(devices),
        platform=devices[0].platform,
        # Without the axis name the first call would compile twice.
        replicate=lambda tree: jax_utils.replicate(tree, list(devices), axis_name="data"),
        split=split,
        compile=compile_,
        one=lambda tree: jax.tree.map(_first_copy, tree),
    )


def _first_copy(a: jax.Array) -> jax.Array:
    # flax.jax_utils.unreplicate keeps the leading axis of one copy on one of several devices.
    return a.addressable_shards[0].data.reshape(a.shape[1:])


def _sealed(f: PerDevice) -> PerDevice:
    """Keep what a map adds around `f` from being fused into it: it would round differently."""

    def sealed(carry: Tree, data: Tree, share: Tree) -> Tree:
        return lax.optimization_barrier(f(*lax.optimization_barrier((carry, data, share))))

    return sealed
