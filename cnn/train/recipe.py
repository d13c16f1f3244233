"""How to train: plain values only, so that reading a command line does not import JAX."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

from etils import epy

from cnn.buckets import BucketPath
from cnn.errors import InputError
from cnn.train.fields import check_fields

with epy.lazy_imports():
    from cnn.layers import serialization

if TYPE_CHECKING:
    import optax

    Factory: TypeAlias = Callable[..., optax.GradientTransformation]
    OptimizerLike: TypeAlias = str | Factory | optax.GradientTransformation
    ScheduleLike: TypeAlias = str | Callable[[Any], Any]
    FunctionLike: TypeAlias = str | Callable[[Any, Any], Any]
else:  # a command line gives names only, and does not import optax
    OptimizerLike = ScheduleLike = FunctionLike = Any

Augmentation: TypeAlias = Literal["crop", "flip", "shift", "cutout", "mixup", "cutmix"]
SCHEDULES = ("constant", "cosine", "one-cycle")

SMALLEST, LARGEST = 2.0**-126, (2 - 2**-23) * 2.0**127
"""The normal numbers of float32. Programs compute with 0 instead of smaller ones."""


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """Every setting of a training run except the model and the data."""

    steps: int = 3000
    """Optimizer steps."""
    batch_size: int = 128
    """Examples per step, over all devices together."""
    epochs: int | None = None
    """Passes over the training set, in place of `steps`. An incomplete last batch is dropped."""
    optimizer: OptimizerLike = "adamw"
    """Name of an optax optimizer (adamw, sgd, lion, muon, ...), beta-lasso (SGD that makes kernels
    sparse, λ = `weight_decay`), or package.module:function, called as function(learning_rate). In
    Python also such a function, or a finished optax transformation; then give lr=1."""
    optimizer_args: tuple[str, ...] = ()
    """Arguments of the optimizer, NAME=VALUE: b1=0.95 nesterov=true. In Python also a mapping."""
    loss: FunctionLike = "cross-entropy"
    """cross-entropy, for classes; binary-cross-entropy, squared-error, absolute-error or huber, for
    float targets; or package.module:function, in Python also a function, of outputs and targets
    that returns one value for each example."""
    metrics: tuple[FunctionLike, ...] = ()
    """What else is measured: accuracy (the default with cross-entropy), top-K, confusion,
    binary-accuracy, squared-error, absolute-error, or functions as for `loss`."""
    lr: float = 1e-3
    """Learning rate; with a schedule, its largest value."""
    schedule: ScheduleLike = "constant"
    """Learning rate over the steps: constant, cosine (half a cosine down to 0), or one-cycle (up
    over the first 30 % of the steps and then down, Smith & Topin 2018). In Python also an optax
    schedule, which gives the learning rate itself; then give lr=1."""
    warmup: int = 0
    """Steps over which the learning rate first rises linearly from 0."""
    weight_decay: float = 0.0
    """Weight decay of the kernels; biases and normalization parameters do not decay. It is
    decoupled where the optimizer has it (adamw, lion), and part of the gradient elsewhere (sgd)."""
    clip_norm: float | None = None
    """Largest norm of the whole gradient; larger gradients are scaled down. No limit by default."""
    ema: float = 0.0
    """Decay per step of a moving average of the weights, which is evaluated instead; 0 for none."""
    augment: tuple[Augmentation, ...] = ()
    """Random augmentations of the training examples, in this order (see `cnn.data.augment`). mixup
    and cutmix mix pairs of examples and their losses; give one of them, as the last."""
    label_smoothing: float = 0.0
    """Fraction of the target that cross-entropy spreads evenly over all classes."""
    precision: Literal["float32", "bfloat16"] = "float32"
    """Number format of the network's computation. Weights, optimizer state and running statistics
    are always float32."""
    accumulate: int = 1
    """Parts that each device splits its batch into; it averages their gradients, to save memory."""
    remat: bool = False
    """Keep only the outputs of blocks and pooling layers, and recompute the rest in the backward
    pass: less memory, a third more computation. On a CPU XLA undoes it."""
    seed: int = 0
    """First random seed. A seed determines initial weights, data order, augmentation and dropout,
    for any number of devices. Noise of a module's own does too if its first axis is the batch."""
    seeds: int = 1
    """Number of seeds, `seed`, `seed` + 1, ..., that train together in one program."""
    validate: bool = False
    """Hold out the last tenth of each training class and evaluate on it, not on the test set."""
    evaluate_every: int | None = None
    """Steps between two evaluations on the held-out part; needs `validate`."""
    patience: int | None = None
    """Evaluations in a row without a smaller validation loss (the mean over all seeds) after which
    training ends; needs `evaluate_every`."""
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
    shard_params: bool = False
    """Spread parameters, gradients and optimizer state over the devices, in place of a copy on
    each, for networks that do not fit one. Weights are gathered where they are used."""
    out: Path | BucketPath | None = None
    """Run folder for metrics and checkpoints, also in a bucket (gs://, s3://). Without it nothing
    is written."""
    resume: bool = False
    """Continue from the newest checkpoint in `out`, or start a run if there is none."""
    overwrite: bool = False
    """Delete the run in `out` and start again."""

    def __post_init__(self) -> None:
        check_fields(self)
        optimizer, schedule = self.optimizer, self.schedule
        known = schedule in SCHEDULES if isinstance(schedule, str) else callable(schedule)
        self._need(known, "schedule", f"{', '.join(SCHEDULES)} or a function")
        is_optax = hasattr(optimizer, "init") and hasattr(optimizer, "update")
        fits = isinstance(optimizer, str) or callable(optimizer) or is_optax
        self._need(fits, "optimizer", "a name or an optax optimizer")
        named = isinstance(self.loss, str) or callable(self.loss)
        self._need(named, "loss", "a name or a function")
        named = all(isinstance(each, str) or callable(each) for each in self.metrics)
        self._need(named, "metrics", "names or functions")

    def check(self) -> None:
        """Raise `InputError` for the first field whose value is out of range."""
        self._check_ranges()
        self._check_functions()
        if self.relax_at is not None:
            possible = 0 <= self.relax_at <= self.steps
            self._need(possible, "relax_at", f"between 0 and steps ({self.steps})")
            self._need(self.patience is None, "patience", "None with relax_at")
        if self.shard_params:
            mapped = self.map_devices == "shard_map"
            self._need(mapped, "map_devices", "shard_map with shard_params")
            self._need(self.seed_groups == 1, "seed_groups", "1 with shard_params")
        if self.keep_best and not self.validate:
            raise InputError("keep_best needs validate: the test set is not for model selection")
        if self.evaluate_every and not self.validate:
            raise InputError("evaluate_every needs validate: the test set is not for choosing")
        if self.patience and not self.evaluate_every:
            raise InputError("patience counts evaluations: give evaluate_every")
        if self.resume and self.overwrite:
            raise InputError("resume and overwrite exclude each other: give one of them")
        if (self.resume or self.overwrite) and self.out is None:
            raise InputError("resume and overwrite need a run folder: give out")

    def _need(self, holds: bool, name: str, constraint: str) -> None:
        if not holds:
            raise InputError(f"{name} must be {constraint}, got {getattr(self, name)!r}")

    def _check_ranges(self) -> None:
        need = self._need
        counts = ("batch_size", "accumulate", "seeds", "seed_groups")
        for name in (*counts, "log_every", "checkpoint_every", "keep_last"):
            need(getattr(self, name) >= 1, name, "1 or more")
        for name in ("epochs", "evaluate_every", "patience", "devices"):
            need(getattr(self, name) is None or getattr(self, name) >= 1, name, "1 or more")
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
        need(self.warmup <= self.steps, "warmup", f"at most steps ({self.steps})")
        mixing = [name for name in self.augment if name in ("mixup", "cutmix")]
        last_one = not mixing or [self.augment[-1]] == mixing
        need(last_one, "augment", "with at most one of mixup and cutmix, as the last")

    def _check_functions(self) -> None:
        """Check what is a name, or in Python a function or an optax transformation."""
        need, schedule = self._need, self.schedule
        rises = schedule == "one-cycle" or callable(schedule)
        need(not rises or self.warmup == 0, "warmup", "0 with this schedule, which has its own")
        smoothed = self.loss == "cross-entropy" or not self.label_smoothing
        need(smoothed, "label_smoothing", "0 with losses other than cross-entropy")
        finished = not isinstance(self.optimizer, str) and not callable(self.optimizer)
        if finished:
            need(not self.weight_decay, "weight_decay", "0 with a transformation: put it in there")
            need(not self.optimizer_args, "optimizer_args", "() with a transformation")
        if (finished or callable(schedule)) and self.lr == Recipe.lr:
            what = "optimizer" if finished else "schedule"
            raise InputError(
                f"lr multiplies the learning rate of your {what}: give lr=1 to keep it"
            )


PROGRAM_FIELDS = (
    *("optimizer", "optimizer_args", "loss", "metrics", "schedule", "warmup", "weight_decay"),
    *("label_smoothing", "clip_norm", "augment", "ema", "precision", "accumulate", "remat"),
    *("on_nan", "map_devices", "devices", "seed_groups", "shard_params"),
)
"""Fields that the compiled programs depend on. Some schedules depend on `steps`, too."""
MAY_CHANGE_ON_RESUME = frozenset(
    {"steps", "epochs", "metrics", "evaluate_every", "patience", "log_every", "checkpoint_every"}
    | {"checkpoint_minutes", "keep_last", "keep_best", "remat", "on_nan", "map_devices", "devices"}
    | {"seed_groups", "shard_params", "out", "resume", "overwrite"}
)
"""Fields that a resumed run may change, because they do not change what is learned."""


def of_programs(recipe: Recipe) -> Recipe:
    """Return the recipe with only the fields that its programs depend on.

    The learning rate is not one: it is part of the state.
    """
    kept = list(PROGRAM_FIELDS)
    kept += ["steps"] if recipe.schedule in ("cosine", "one-cycle") else []
    return Recipe(lr=1.0, **{name: getattr(recipe, name) for name in kept})


def identity(recipe: Recipe) -> dict[str, Any]:
    """Return the fields that a resumed run must not change, as JSON.

    `steps` is one of them if the learning-rate schedule depends on it.
    """
    fixed = {
        field.name: plain(getattr(recipe, field.name))
        for field in dataclasses.fields(Recipe)
        if field.name not in MAY_CHANGE_ON_RESUME
    }
    depends = recipe.schedule in ("cosine", "one-cycle")
    return {**fixed, "steps": recipe.steps} if depends else fixed


def plain(value: Any) -> Any:
    """Return a setting as JSON: functions and transformations by their names."""
    if isinstance(value, functools.partial):
        arguments = [*map(repr, value.args), *(f"{k}={v!r}" for k, v in value.keywords.items())]
        return f"{plain(value.func)}({', '.join(arguments)})"
    if isinstance(value, tuple) and not hasattr(value, "update"):
        return tuple(map(plain, value))
    if value is None or isinstance(value, str | int | float | Path):
        return value
    return serialization.qualified_name(value if hasattr(value, "__qualname__") else type(value))


def is_by_name(recipe: Recipe) -> bool:
    """Return whether names describe the recipe whole, without a function given in Python."""
    functions = (recipe.optimizer, recipe.schedule, recipe.loss, *recipe.metrics)
    return all(isinstance(each, str) for each in functions)
