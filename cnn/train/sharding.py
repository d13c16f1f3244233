"""Parameters that are spread over the devices, for networks that do not fit one.

Each device holds a part of every large array of the training state. For the forward pass, and again
for the backward pass, the devices gather each weight where it is used. Of its gradient a device
receives the part that it holds. The optimizer sees global arrays, and XLA adds the communication
that it needs: norms over all weights, say.

Reference:
    Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion Parameter Models"
    (2020), stage 3.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
from flax import linen as nn
from jax import lax
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec
from jaxtyping import Array, Float, Key

from cnn.train.devices import BY_EXAMPLE, DeviceMap, PerDevice
from cnn.train.ensemble import Chunk, Rows, States, Trained
from cnn.train.recipe import Recipe
from cnn.train.state import Tree
from cnn.train.step import Batch, Evaluate, Gradients, Metrics, evaluate_batch, mean_gradients

SMALLEST = 2**12
"""Arrays with fewer entries stay whole on every device: many messages for little memory."""
WHOLE = PartitionSpec()
GATHER = "gather_params"
"""Name of these operations, and of their transposes, in traces and profiles."""


class ShardedParams(DeviceMap):
    """Compiles functions of global arrays. States are spread over all devices."""

    def init_sharding(self, init: Callable[[int, float], Tree]) -> Tree:
        return shardings(jax.eval_shape(init, 0, 1.0), self.mesh)

    def put_states(self, tree: Tree) -> Tree:
        return jax.device_put(tree, shardings(tree, self.mesh))

    def compile(self, f: PerDevice, spec: PartitionSpec, donate: bool) -> Callable[..., Tree]:
        return self._jit(f, donate)


def partition(a: Any, devices: int) -> PartitionSpec:
    """Return how devices hold an array: split along the first axis that they divide, or whole.

    The first axes of a kernel that is not shared are its positions.
    """
    fits = [k for k, n in enumerate(a.shape) if n % devices == 0]
    if devices == 1 or a.size < SMALLEST or not fits:
        return WHOLE
    return PartitionSpec(*[None] * fits[0], "data")


def shardings(tree: Tree, mesh: Mesh | AbstractMesh) -> Tree:
    """Return the sharding of each array of a tree."""
    return jax.tree.map(lambda spec: NamedSharding(mesh, spec), _partitions(tree, mesh))


def gradients(model: nn.Module, recipe: Recipe, mesh: Mesh | AbstractMesh) -> Gradients:
    """Return `mean_gradients` as a function of global arrays."""

    def spread(
        params: Tree, batch_stats: Tree, key: Key[Array, ""], batch: Batch
    ) -> tuple[Tree, tuple[Tree, Metrics]]:
        specs = _partitions(params, mesh)
        held = {"gather": partial(_gather, specs), "mean": partial(_mean, specs)}
        on_each: Any = partial(mean_gradients, model, recipe, **held)  # type: ignore[arg-type]
        mapped = _over(mesh, on_each, (specs, WHOLE, WHOLE, BY_EXAMPLE), (specs, WHOLE))
        return mapped(params, batch_stats, key, batch)

    return spread


def evaluation(model: nn.Module, recipe: Recipe, mesh: Mesh | AbstractMesh) -> Evaluate:
    """Return `evaluate_batch` as a function of global arrays."""

    def spread(variables: Tree, batch: Batch, weight: Float[Array, " batch"]) -> Metrics:
        specs = _partitions(variables, mesh)

        def on_each(variables: Tree, batch: Batch, weight: Array) -> Metrics:
            return evaluate_batch(model, recipe, _gather(specs, variables), batch, weight)

        return _over(mesh, on_each, (specs, BY_EXAMPLE, BY_EXAMPLE), WHOLE)(
            variables, batch, weight
        )

    return spread


def keep(program: Chunk, mesh: Mesh | AbstractMesh) -> Chunk:
    """Return a program of global arrays that leaves states spread as it got them."""

    def kept(states: States, data: Batch, rows: Rows) -> Trained:
        trained = program(states, data, rows)
        lie = [(shardings(state, mesh), NamedSharding(mesh, WHOLE)) for state, _ in trained]
        return [lax.with_sharding_constraint(*each) for each in zip(trained, lie, strict=True)]

    return kept


def bytes_per_device(tree: Tree) -> tuple[int, int]:
    """Return the bytes that each device holds of a tree, and how many of them are of whole arrays.

    The arrays may be shapes. Without a sharding every device holds them whole.
    """
    total = whole = 0
    for leaf in jax.tree.leaves(tree):
        shape = leaf.sharding.shard_shape(leaf.shape) if leaf.sharding else leaf.shape
        held = math.prod(shape) * leaf.dtype.itemsize
        total, whole = total + held, whole + (held if shape == leaf.shape else 0)
    return total, whole


def describe(states: Tree) -> str:
    """Return in words what each device holds of these arrays."""
    total = sum(leaf.size * leaf.dtype.itemsize for leaf in jax.tree.leaves(states))
    held, whole = (f"{count / 1e6:.4g}" for count in bytes_per_device(states))
    return f"state of {total / 1e6:.4g} MB, {held} on each device, {whole} of it not split"


def _partitions(tree: Tree, mesh: Mesh | AbstractMesh) -> Tree:
    return jax.tree.map(lambda a: partition(a, mesh.shape["data"]), tree)


def _over(mesh: Mesh | AbstractMesh, f: Callable[..., Any], given: Any, made: Any) -> Any:
    # check_vma=False as in `over_mesh`.
    return jax.shard_map(f, mesh=mesh, in_specs=given, out_specs=made, check_vma=False)


def _gather(specs: Tree, tree: Tree) -> Tree:
    """Return whole arrays. The transpose sums cotangents and leaves each device its part."""

    def whole(a: Array, spec: PartitionSpec) -> Array:
        return lax.all_gather(a, "data", axis=len(spec) - 1, tiled=True) if spec else a

    with jax.named_scope(GATHER):
        return jax.tree.map(whole, tree, specs)


def _mean(specs: Tree, gradients: Tree) -> Tree:
    """Return means over the devices. Those of parts are summed already (see `_gather`)."""
    devices = lax.axis_size("data")
    return jax.tree.map(
        lambda g, spec: g / devices if spec else lax.pmean(g, "data"), gradients, specs
    )
