"""The compiled programs of a run. Runs that differ only in their data share them."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
from flax import linen as nn
from jax.sharding import AbstractMesh, Mesh
from jaxtyping import Array, Float, Int

from cnn.train import sharding
from cnn.train.devices import BY_EXAMPLE, BY_EXAMPLE_AND_SEED, DeviceMap, device_map
from cnn.train.ensemble import Chunk, Rows, States, Step, Trained, chunk_length, compose, gather
from cnn.train.non_finite import skip_unless_finite
from cnn.train.optimizers import make_optimizer
from cnn.train.recipe import Recipe, of_programs
from cnn.train.sharding import ShardedParams
from cnn.train.state import TrainState, init_state
from cnn.train.step import Batch, Evaluate, Metrics, evaluate_batch, train_step

Weighted = tuple[Int[Array, " batch"] | Batch, Float[Array, " batch"]]
"""Row numbers, or examples, and their weights."""


class Programs(NamedTuple):
    """The compiled functions for one model and recipe, and their devices."""

    init: Callable[[int, float], TrainState]
    """`(seed, lr)` → the state before the first step."""
    run: Callable[[States, Batch, Rows], Trained]
    """`(states, data, rows)` → states and metrics after some steps. Donates `states`."""
    evaluate: Callable[[States, Batch, Weighted], list[Metrics]]
    """`(states, data, (rows, weights))` → for every seed, the sums over one batch."""
    devices: DeviceMap
    chunk: int
    """Most steps per call of `run`."""


def programs(model: nn.Module, recipe: Recipe, input_shape: tuple[int, ...]) -> Programs:
    """Return the programs that train `model` by `recipe` on inputs `(*spatial, channels)`.

    Raises:
        InputError: As `device_map` does.
    """
    return _programs(model, of_programs(recipe), input_shape)


def training_program(
    model: nn.Module, recipe: Recipe, platform: str, mesh: Mesh | AbstractMesh
) -> Chunk:
    """Return the function that trains all seeds by `recipe` on one kind of device.

    It is per device, or with `shard_params` of global arrays on the mesh.
    """
    gradients = sharding.gradients(model, recipe, mesh) if recipe.shard_params else None
    step: Step = partial(train_step, model, make_optimizer(recipe), recipe, gradients=gradients)
    if recipe.on_nan == "skip":
        step = skip_unless_finite(step)
    program = compose(step, platform)
    return sharding.keep(program, mesh) if recipe.shard_params else program


@lru_cache(maxsize=16)
def _programs(model: nn.Module, recipe: Recipe, input_shape: tuple[int, ...]) -> Programs:
    devices = device_map(recipe.map_devices, recipe.devices, recipe.seed_groups)
    evaluate_one: Evaluate = partial(evaluate_batch, model, recipe)
    if recipe.shard_params:
        devices = ShardedParams(devices.devices, groups=1)
        evaluate_one = sharding.evaluation(model, recipe, devices.mesh)
    evaluate_one = jax.jit(evaluate_one)  # traced once for all seeds
    platform, tx = devices.platform, make_optimizer(recipe)
    init = partial(init_state, model, tx, input_shape, average=recipe.ema > 0)

    def evaluate(states: States, data: Batch, weighted: Weighted) -> list[Metrics]:
        rows, weights = weighted
        batch = gather(data, rows)
        return [evaluate_one(state.variables, batch, weights) for state in states]

    return Programs(
        # It runs once per seed, and XLA takes far longer to optimize random bits than to draw them.
        init=jax.jit(
            init,
            out_shardings=devices.init_sharding(init),
            compiler_options={"xla_backend_optimization_level": 1} if platform == "cpu" else None,
        ),
        run=devices.compile(
            training_program(model, recipe, platform, devices.mesh), BY_EXAMPLE_AND_SEED, True
        ),
        evaluate=devices.compile(evaluate, BY_EXAMPLE, False),
        devices=devices,
        chunk=chunk_length(platform),
    )
