"""What a run is, what it measures, and what cannot be."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnn.data import Dataset
from cnn.errors import InputError
from cnn.train.devices import DeviceMap
from cnn.train.ensemble import States
from cnn.train.recipe import Recipe
from cnn.train.run_dir import finite_only


@dataclass(frozen=True, kw_only=True)
class Config(Recipe):
    """A training run: a model value, a data set, and the recipe.

    With `relax_at`, training goes on with `relax_to` from that step: `model` with less bias.
    """

    model: nn.Module
    data: Dataset
    relax_to: nn.Module | None = None
    learning_rates: tuple[float, ...] = ()
    """Learning rates that train together, every seed at each, in place of `lr`."""

    @property
    def seed_range(self) -> range:
        """The seeds that train together."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def members(self) -> list[tuple[int, float]]:
        """Seed and learning rate of every state that is trained, rate by rate."""
        return [(seed, lr) for lr in self.learning_rates or (self.lr,) for seed in self.seed_range]

    @property
    def stages(self) -> list[tuple[nn.Module, int]]:
        """The models that train one after the other, each with the step it trains until."""
        if self.relax_at is None or self.relax_to is None:
            return [(self.model, self.steps)]
        return [(self.model, self.relax_at), (self.relax_to, self.steps)]

    def check(self) -> None:
        """Raise `InputError` for the first field whose value cannot be."""
        super().check()
        for lr in self.learning_rates:
            replace(self, lr=lr, learning_rates=()).check()
        if self.learning_rates and self.out is not None:
            raise InputError("rates have no run folder together: leave out, or train one by one")
        if (self.relax_at is None) != (self.relax_to is None):
            raise InputError("relax_at and relax_to need each other: give both, or neither")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run measured; arrays have one entry per state, accuracies are fractions."""

    steps: int
    seeds: tuple[int, ...]
    parameters: int
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    skipped: np.ndarray
    """Steps left out since this start, because loss or gradients were not finite."""
    seconds: float
    states: States


def is_due(step: int, every: int, config: Config) -> bool:
    """Say whether what happens every so many steps, and at the last one, happens after `step`."""
    return step % every == 0 or step == config.steps


def check_batch(config: Config, examples: int, devices: DeviceMap) -> None:
    """Raise `InputError` if batch and seeds do not fit the devices, or the training set."""
    if len(config.members) % devices.groups:
        raise InputError(
            f"seeds {len(config.members)} is not divisible by seed_groups {devices.groups}: "
            f"give a multiple of {devices.groups}, or fewer groups"
        )
    parts = devices.number * config.accumulate
    if config.batch_size % parts:
        split = f"{devices.number} devices"
        split += f" × accumulate {config.accumulate}" if config.accumulate > 1 else ""
        raise InputError(
            f"batch_size {config.batch_size} is not divisible by {split}: "
            f"give a multiple of {parts}, or fewer devices"
        )
    if config.batch_size > examples:
        raise InputError(
            f"batch_size {config.batch_size} exceeds the {examples} training examples: give less"
        )


def check_model(model: nn.Module, data: Dataset) -> int:
    """Return the number of parameters of `model` on `data`, by abstract evaluation only.

    Raises `InputError` if the model does not take the data's inputs, does not end in its classes,
    or is not a value.
    """
    try:
        hash(model)
    except TypeError:
        raise InputError(
            "the model has a field that is not a value: give tuples, not lists"
        ) from None
    x = jax.ShapeDtypeStruct((1, *data.input_shape), jnp.float32)
    try:
        logits, made = jax.eval_shape(model.init_with_output, jax.random.key(0), x)
    except InputError as error:
        raise InputError(f"on inputs of shape {data.input_shape} of {data.name}, {error}") from None
    if logits.shape != (1, data.num_classes):
        raise InputError(
            f"the model gives {logits.shape[1:]} values for each example but {data.name} has "
            f"{data.num_classes} classes: build it with num_classes={data.num_classes}"
        )
    return sum(leaf.size for leaf in jax.tree.leaves(made.get("params", {})))


def final_record(result: Result, validated: bool) -> dict[str, Any]:
    """Return the last line of `metrics.jsonl`: means over the seeds, then each seed's own."""
    test = "validation" if validated else "test"
    own = {
        "train_loss": result.train_loss,
        "train_accuracy": result.train_accuracy,
        f"{test}_loss": result.test_loss,
        f"{test}_accuracy": result.test_accuracy,
    }
    return {
        "step": result.steps,
        "final": True,
        **{name: finite_only(values.mean()) for name, values in own.items()},
        "parameters": result.parameters,
        **({"skipped": int(result.skipped.sum())} if result.skipped.any() else {}),
        "seconds": round(result.seconds, 3),
        "seeds": list(result.seeds),
        "per_seed": {name: finite_only(values) for name, values in own.items()},
    }
