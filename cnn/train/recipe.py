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
    optimizer: Literal["adamw", "sgd", "adadelta", "beta-lasso"] = "adamw"
    """Adam (decoupled weight decay), SGD with Nesterov momentum 0.9, Adadelta with ρ = 0.9, or
    β-LASSO: plain SGD that prefers few weights, β = 50, λ is `weight_decay`."""
    lr: float = 1e-3
    """Learning rate, the largest one of the schedule."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """Learning rate over the steps: constant, falling to zero along half a cosine, or up, then
    down along cosines (Smith & Topin 2018)."""
    warmup: int = 0
    """Steps over which the learning rate first rises from zero."""
    weight_decay: float = 0.0
    """Decay of the kernels towards zero; biases and normalisation are left alone."""
    clip_norm: float | None = None
    """Norm of the whole gradient above which it is scaled down to it; never if not given."""
    ema: float = 0.0
    """Decay per step of the average of the weights that is evaluated; 0 evaluates the weights."""
    augment: tuple[Literal["crop", "flip", "shift", "cutout"], ...] = ()
    """Random changes of the training examples, in this order, as `cnn.data.augment` makes them."""
    label_smoothing: float = 0.0
    """Share of the target spread evenly over all classes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """What the network computes in; weights, optimizer and running statistics are float32."""
    accumulate: int = 1
    """Parts in which a device takes its share of a batch, one after another, to save memory."""
    remat: bool = False
    """Keep what blocks and pooling layers give, and compute the rest anew on the way back: less
    memory for a third more work. On a CPU XLA undoes it."""
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
    checkpoint_minutes: float = 10.0
    """Minutes after which a checkpoint is due in any case; not looked at with several processes."""
    keep_last: int = 2
    """Newest checkpoints that are kept."""
    keep_best: int = 0
    """Checkpoints kept besides, those of the smallest validation loss; needs `validate`."""
    on_nan: Literal["stop", "skip"] = "stop"
    """At a loss or gradient that is not finite: stop with a report, or leave the step out."""
    map_devices: Literal["shard_map", "pmap"] = "shard_map"
    """How the per-device step is mapped over the devices."""
    devices: int | None = None
    """Use the first so many devices; all if not given."""
    seed_groups: int = 1
    """Groups of devices that share the seeds out; the devices of a group split the batch."""
    out: Path | None = None
    """Run folder for metrics and checkpoints; nothing is written if not given."""
    resume: bool = False
    """Go on from the newest checkpoint in `out` (from the beginning where there is none)."""
    overwrite: bool = False
    """Remove the run that stands in `out` and start anew."""

    def check(self) -> None:
        """Raise `InputError` for the first field whose value cannot be."""
        counts = ("batch_size", "accumulate", "seeds", "seed_groups")
        for name in (*counts, "log_every", "checkpoint_every", "keep_last"):
            _need(getattr(self, name) >= 1, self, name, "give 1 or more")
        for name in ("steps", "warmup", "weight_decay", "seed", "keep_best"):
            _need(getattr(self, name) >= 0, self, name, "give 0 or more")
        _need(0 < self.lr < float("inf"), self, "lr", "give a positive number")
        minutes = self.checkpoint_minutes
        _need(minutes > 0, self, "checkpoint_minutes", "give a positive number, inf for never")
        _need(0 <= self.label_smoothing < 1, self, "label_smoothing", "give 0 or more, below 1")
        _need(0 <= self.ema < 1, self, "ema", "give 0 or more, below 1")
        _need(self.clip_norm is None or self.clip_norm > 0, self, "clip_norm", "give more than 0")
        _need(self.warmup <= self.steps, self, "warmup", f"give at most steps, {self.steps}")
        if self.schedule == "one-cycle":
            _need(self.warmup == 0, self, "warmup", "one-cycle rises by itself, give 0")
        _need(self.devices is None or self.devices >= 1, self, "devices", "give 1 or more")
        if self.relax_at is not None:
            possible = 0 <= self.relax_at <= self.steps
            _need(possible, self, "relax_at", f"give 0 to steps, {self.steps}")
            known = self.optimizer != "adadelta"
            _need(known, self, "relax_at", "the state of adadelta is not lifted, take adam or sgd")
        if self.keep_best and not self.validate:
            raise InputError(
                f"keep_best {self.keep_best} needs validate: the test set is not for choosing"
            )
        if self.resume and self.overwrite:
            raise InputError("resume and overwrite exclude each other: give one of them")
        if (self.resume or self.overwrite) and self.out is None:
            raise InputError("resume and overwrite need a run folder: give out")


def _need(holds: bool, recipe: Recipe, name: str, remedy: str) -> None:
    if not holds:
        raise InputError(f"{name} {getattr(recipe, name)!r} cannot be: {remedy}")


MAY_CHANGE_ON_RESUME = frozenset(
    {"steps", "log_every", "checkpoint_every", "checkpoint_minutes", "keep_last", "keep_best"}
    | {"remat", "on_nan", "map_devices", "devices", "seed_groups", "out", "resume", "overwrite"}
)
"""Fields that may differ between a run and its continuation: they do not change what is learned."""


def identity(recipe: Recipe) -> dict[str, object]:
    """Return the fields, as JSON writes them, that a continued run must have like its start.

    `steps` is one of them where the schedule depends on it.
    """
    fixed = {
        field.name: getattr(recipe, field.name)
        for field in dataclasses.fields(Recipe)
        if field.name not in MAY_CHANGE_ON_RESUME
    }
    return fixed if recipe.schedule == "constant" else {**fixed, "steps": recipe.steps}
