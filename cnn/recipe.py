"""How to train: plain values only, so that reading a command line need not wait for JAX."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnn.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Everything about a training run except the model and the data."""

    steps: int = 3000
    """Optimizer steps."""
    batch_size: int = 128
    """Examples per step, over all devices together."""
    optimizer: Literal["adam", "sgd", "beta-lasso"] = "adam"
    """Adam (decoupled weight decay), SGD with Nesterov momentum 0.9, or β-LASSO: plain SGD that
    prefers few weights, β = 50, λ is `weight_decay`."""
    lr: float = 1e-3
    """Learning rate, the largest one of the schedule."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate over the steps: constant, or falling to zero along half a cosine."""
    warmup: int = 0
    """Steps over which the learning rate first rises from zero."""
    weight_decay: float = 0.0
    """Decay of the kernels towards zero; biases and normalisation are left alone."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""
    seed: int = 0
    """First seed; it decides initial weights, data order and dropout."""
    seeds: int = 1
    """Number of seeds, `seed`, `seed` + 1, ..., trained together in one program."""
    validate: bool = False
    """Hold the validation part out of training and report on it: the test set is not looked at."""
    relax_at: int | None = None
    """Step before which the weights are lifted to a model with less bias, which trains on."""
    log_every: int = 100
    """Steps between two lines of `metrics.jsonl`."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints; the last step always makes one."""
    map_devices: Literal["shard_map", "pmap"] = "shard_map"
    """How the per-device step is mapped over the devices."""
    devices: int | None = None
    """Use the first so many devices; all if not given."""
    out: Path | None = None
    """Run folder for metrics and checkpoints; nothing is written if not given."""
    resume: bool = False
    """Go on from the newest checkpoint in `out` (from the beginning where there is none)."""
    overwrite: bool = False
    """Remove the run that stands in `out` and start anew."""

    def check(self) -> None:
        """Raise `InputError` for the first field whose value cannot be."""
        for name in ("batch_size", "seeds", "log_every", "checkpoint_every"):
            _need(getattr(self, name) >= 1, self, name, "give 1 or more")
        for name in ("steps", "warmup", "weight_decay", "seed"):
            _need(getattr(self, name) >= 0, self, name, "give 0 or more")
        _need(0 < self.lr < float("inf"), self, "lr", "give a positive number")
        _need(0 <= self.label_smoothing < 1, self, "label_smoothing", "give 0 or more, below 1")
        _need(self.warmup <= self.steps, self, "warmup", f"give at most steps, {self.steps}")
        _need(self.devices is None or self.devices >= 1, self, "devices", "give 1 or more")
        if self.relax_at is not None:
            possible = 0 <= self.relax_at <= self.steps
            _need(possible, self, "relax_at", f"give 0 to steps, {self.steps}")
        if self.resume and self.overwrite:
            raise InputError("resume and overwrite exclude each other: give one of them")
        if (self.resume or self.overwrite) and self.out is None:
            raise InputError("resume and overwrite need a run folder: give out")


def _need(holds: bool, recipe: Recipe, name: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"{name} {getattr(recipe, name)!r} cannot be: {remedy}")


FREE_TO_CHANGE = frozenset(
    {"steps", "log_every", "checkpoint_every", "map_devices", "devices"}
    | {"out", "resume", "overwrite"}
)
"""Fields that may differ between a run and its continuation: they do not change what is learned."""


def identity(recipe: Recipe) -> dict[str, object]:
    """Return the fields, as JSON values, that a continued run must have in common with its start.

    `steps` is one of them where the schedule depends on it.
    """
    fixed = {
        field.name: getattr(recipe, field.name)
        for field in dataclasses.fields(Recipe)
        if field.name not in FREE_TO_CHANGE
    }
    return fixed if recipe.schedule == "constant" else {**fixed, "steps": recipe.steps}
