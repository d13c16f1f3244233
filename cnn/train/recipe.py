"""How to train: plain values only, so that reading a command line does not import JAX."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from cnn.errors import InputError
from cnn.train.fields import check_fields

SMALLEST, LARGEST = 2.0**-126, (2 - 2**-23) * 2.0**127
"""The normal numbers of float32. Programs compute with 0 instead of smaller ones."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a training run except the model and the data."""

    steps: int = 3000
    """Optimizer steps."""
    batch_size: int = 128
    """Examples per step, over all devices together."""
    optimizer: Literal["adamw", "sgd", "adadelta", "beta-lasso"] = "adamw"
    """Adam with decoupled weight decay, SGD with Nesterov momentum 0.9, Adadelta with ρ = 0.9, or
    β-LASSO: SGD that makes kernels sparse, with β = 50 and λ = `weight_decay`."""
    lr: float = 1e-3
    """Learning rate; with a schedule, its largest value."""
    schedule: Literal["constant", "cosine", "one-cycle"] = "constant"
    """Learning rate over the steps: constant, half a cosine down to 0, or up over the first 30 % of
    the steps and then down (Smith & Topin 2018)."""
    warmup: int = 0
    """Steps over which the learning rate first rises linearly from 0."""
    weight_decay: float = 0.0
    """Weight decay of the kernels. Biases and normalization parameters do not decay."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; larger gradients are scaled down. No limit by default."""
    ema: float = 0.0
    """Decay per step of a moving average of the weights, which is evaluated instead; 0 for none."""
    augment: tuple[Literal["crop", "flip", "shift", "cutout"], ...] = ()
    """Random augmentations of the training examples, in this order (see `cnn.data.augment`)."""
    label_smoothing: float = 0.0
    """Fraction of the target that is spread evenly over all classes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. Weights, optimizer state and running statistics
    are always float32."""
    accumulate: int = 1
    """Parts that each device splits its batch into; it averages their gradients, to save memory."""
    remat: bool = False
    """Keep only the outputs of blocks and pooling layers, and recompute the rest in the backward
    pass: less memory, a third more computation. On a CPU XLA undoes it."""
    seed: int = 0
    """First random seed. A seed determines initial weights, data order and dropout. The masks of
    dropout also depend on the number of devices and on `accumulate`: each part draws its own."""
    seeds: int = 1
    """Number of seeds, `seed`, `seed` + 1, ..., that train together in one program."""
    validate: bool = False
    """Hold out the last tenth of each training class and evaluate on it, not on the test set."""
    relax_at: int | None = None
    """Step after which the weights are lifted to a model with less bias, which trains on."""
    log_every: int = 100
    """Steps between two lines of `metrics.jsonl`."""
    checkpoint_every: int = 1000
    """Steps between two checkpoints. The last step is always saved."""
    checkpoint_minutes: float = 10.0
    """Most minutes between two checkpoints; inf for no limit. Several processes ignore it."""
    keep_last: int = 2
    """Number of newest checkpoints to keep."""
    keep_best: int = 0
    """Number of checkpoints with the smallest validation loss to keep too; needs `validate`."""
    on_nan: Literal["stop", "skip"] = "stop"
    """If a loss, gradient or update is not finite: stop with a report, or skip the step."""
    map_devices: Literal["shard_map", "pmap"] = "shard_map"
    """JAX transformation that maps the step over the devices."""
    devices: int | None = None
    """Number of devices to use; all by default."""
    seed_groups: int = 1
    """Groups of devices. Each trains its share of the seeds and splits the batch among itself."""
    out: Path | None = None
    """Run folder for metrics and checkpoints. Without it nothing is written."""
    resume: bool = False
    """Continue from the newest checkpoint in `out`, or start a run if there is none."""
    overwrite: bool = False
    """Delete the run in `out` and start again."""

    def __post_init__(self) -> None:
        check_fields(self)

    def check(self) -> None:
        """Raise `InputError` for the first field whose value is out of range."""

        def need(holds: bool, name: str, constraint: str) -> None:
            if not holds:
                raise InputError(f"{name} must be {constraint}, got {getattr(self, name)!r}")

        counts = ("batch_size", "accumulate", "seeds", "seed_groups")
        for name in (*counts, "log_every", "checkpoint_every", "keep_last"):
            need(getattr(self, name) >= 1, name, "1 or more")
        for name in ("steps", "warmup", "weight_decay", "seed", "keep_best"):
            need(getattr(self, name) >= 0, name, "0 or more")
        # JAX counts steps and seeds in int32.
        need(self.steps < 2**31, "steps", "below 2^31")
        last = 2**31 - self.seeds
        need(self.seed <= last, "seed", f"at most 2^31 - seeds = {last}")
        for name in ("label_smoothing", "ema"):
            need(0 <= getattr(self, name) < 1, name, "at least 0 and below 1")
        need(0 < self.lr < float("inf"), "lr", "positive and finite")
        for name in ("lr", "weight_decay", "clip_norm"):
            value = getattr(self, name)
            representable = not value or SMALLEST <= value <= LARGEST
            need(representable, name, f"a float32 from {SMALLEST:.3g} to {LARGEST:.3g}")
        need(self.checkpoint_minutes > 0, "checkpoint_minutes", "positive")
        need(self.clip_norm is None or self.clip_norm > 0, "clip_norm", "positive")
        need(self.devices is None or self.devices >= 1, "devices", "1 or more")
        need(self.warmup <= self.steps, "warmup", f"at most steps ({self.steps})")
        one_cycle = self.schedule == "one-cycle"
        need(not one_cycle or self.warmup == 0, "warmup", "0 with one-cycle, which has its own")
        if self.relax_at is not None:
            possible = 0 <= self.relax_at <= self.steps
            need(possible, "relax_at", f"between 0 and steps ({self.steps})")
            lifted = self.optimizer != "adadelta"
            need(lifted, "optimizer", "adamw, sgd or beta-lasso to use relax_at")
        if self.keep_best and not self.validate:
            raise InputError("keep_best needs validate: the test set is not for model selection")
        if self.resume and self.overwrite:
            raise InputError("resume and overwrite exclude each other: give one of them")
        if (self.resume or self.overwrite) and self.out is None:
            raise InputError("resume and overwrite need a run folder: give out")


MAY_CHANGE_ON_RESUME = frozenset(
    {"steps", "log_every", "checkpoint_every", "checkpoint_minutes", "keep_last", "keep_best"}
    | {"remat", "on_nan", "map_devices", "devices", "seed_groups", "out", "resume", "overwrite"}
)
"""Fields that a resumed run may change, because they do not change what is learned."""


def identity(recipe: Recipe) -> dict[str, object]:
    """Return the fields that a resumed run must not change.

    `steps` is one of them if the learning-rate schedule depends on it.
    """
    fixed = {
        field.name: getattr(recipe, field.name)
        for field in dataclasses.fields(Recipe)
        if field.name not in MAY_CHANGE_ON_RESUME
    }
    return fixed if recipe.schedule == "constant" else {**fixed, "steps": recipe.steps}
