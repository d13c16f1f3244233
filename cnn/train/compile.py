"""The compiled programs of a run, looked up by what they compute.

A model is a value and a recipe is a value: two runs that differ in their data alone share their
programs, and compile once.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from typing import NamedTuple

import jax
from flax import linen as nn
from jax.sharding import PartitionSpec
from jaxtyping import Array, Float, Int

from cnn.train.devices import BY_EXAMPLE, BY_EXAMPLE_AND_SEED, DeviceMap, device_map
from cnn.train.ensemble import Rows, States, Step, Trained, chunk_length, compose, pick
from cnn.train.non_finite import skip_unless_finite
from cnn.train.optimizers import make_optimizer
from cnn.train.recipe import Recipe
from cnn.train.state import TrainState, init_state
from cnn.train.step import Batch, Metrics, evaluate_batch, train_step

Weighted = tuple[Int[Array, " batch"] | Batch, Float[Array, " batch"]]
"""Rows, or these examples, and their weights."""


class Programs(NamedTuple):
    """What is compiled for one model and recipe, and the devices it is compiled for."""

    init: Callable[[int, float], TrainState]
    """The state of a seed, with its learning rate, before the first step."""
    run: Callable[[States, Batch, Rows], Trained]
    """Some steps of all seeds: `(states, data, rows)`, states donated."""
    evaluate: Callable[[States, Batch, Weighted], list[Metrics]]
    """Sums over one batch for every seed: `(states, data, (rows, weights))`."""
    devices: DeviceMap
    chunk: int
    """Steps that one call of `run` makes at most."""


def programs(model: nn.Module, recipe: Recipe, input_shape: tuple[int, ...]) -> Programs:
    """Return the programs for `model` trained by `recipe` on inputs `(*spatial, channels)`.

    Raises `InputError` for more devices than there are.
    """
    return _programs(model, _what_compiles(recipe), input_shape)


def _what_compiles(recipe: Recipe) -> Recipe:
    """Keep the fields that the programs depend on: runs that differ in others share them.

    The learning rate is none of them: the optimizer's is 1, and a state has its own.
    """
    kept = ["optimizer", "schedule", "warmup", "weight_decay", "label_smoothing", "clip_norm"]
    kept += ["augment", "ema", "precision", "accumulate", "remat", "on_nan"]
    kept += ["map_devices", "devices", "seed_groups"]
    kept += [] if recipe.schedule == "constant" else ["steps"]
    return Recipe(lr=1.0, **{name: getattr(recipe, name) for name in kept})


@lru_cache(maxsize=16)
def _programs(model: nn.Module, recipe: Recipe, input_shape: tuple[int, ...]) -> Programs:
    devices = device_map(recipe.map_devices, recipe.devices, recipe.seed_groups)
    platform = devices.platform
    tx = make_optimizer(recipe)
    step: Step = partial(train_step, model, tx, recipe)
    if recipe.on_nan == "skip":
        step = skip_unless_finite(step)

    measure = jax.jit(partial(evaluate_batch, model, recipe))  # traced once for all seeds

    def sums(states: States, data: Batch, share: Weighted) -> list[Metrics]:
        rows, weights = share
        batch = pick(data, rows)
        return [measure(state, batch, weights) for state in states]

    return Programs(
        # It runs once per seed, and random bits take far longer to optimise than to draw.
        init=jax.jit(
            partial(init_state, model, tx, input_shape, average=recipe.ema > 0),
            out_shardings=devices.sharding(PartitionSpec()),
            compiler_options={"xla_backend_optimization_level": 1} if platform == "cpu" else None,
        ),
        run=devices.compile(compose(step, platform), BY_EXAMPLE_AND_SEED, True),
        evaluate=devices.compile(sums, BY_EXAMPLE, False),
        devices=devices,
        chunk=chunk_length(platform),
    )
