"""`Config`: a recipe with its model and data, checked before anything runs. `Result`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.errors import FlaxError
from jaxtyping import Array

from cnn.data import Dataset
from cnn.data.augment import MIXING
from cnn.errors import InputError, RunError
from cnn.geometry.cpu_padding import check_padding
from cnn.layers.combinators import train_argument
from cnn.train.devices import DeviceMap
from cnn.train.display import measures_html, measures_text
from cnn.train.ensemble import States
from cnn.train.losses import make_loss
from cnn.train.metrics import make_metrics, measure
from cnn.train.optimizers import check_optimizer
from cnn.train.recipe import Recipe, of_programs, plain


@dataclass(frozen=True, kw_only=True)
class Config(Recipe):
    """A training run: a model, a data set, and the recipe.

    After step `relax_at`, `relax_to` replaces `model`. It has less bias and computes the same.
    """

    model: nn.Module
    data: Dataset
    relax_to: nn.Module | None = None
    transforms: tuple[Any, ...] = ()
    """Grain transforms (`grain.transforms.Map`, `RandomMap`) of the training examples, each
    {"x": ..., "y": ...}, in this order. They run on the host, before `augment`."""
    learning_rates: tuple[float, ...] = ()
    """Learning rates that train together, each with every seed, instead of `lr`."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.epochs is not None and self.batch_size >= 1:
            steps = self.epochs * (len(self.examples.train) // self.batch_size)
            if self.steps not in (Recipe.steps, steps):
                raise InputError(f"give steps or epochs, got {self.steps} and {self.epochs}")
            object.__setattr__(self, "steps", steps)

    @cached_property
    def examples(self) -> Dataset:
        """The data to train and evaluate on: with `validate`, without the test part."""
        return self.data.held_out() if self.validate else self.data

    @property
    def seed_range(self) -> range:
        """The seeds that train together."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def replicas(self) -> list[tuple[int, float]]:
        """Seed and learning rate of every state that trains, all seeds of the first rate first."""
        return [(seed, lr) for lr in self.learning_rates or (self.lr,) for seed in self.seed_range]

    @property
    def phases(self) -> list[tuple[nn.Module, int]]:
        """The models that train one after another, each with its last step."""
        if self.relax_at is None or self.relax_to is None:
            return [(self.model, self.steps)]
        return [(self.model, self.relax_at), (self.relax_to, self.steps)]

    def check(self) -> None:
        """Raise `InputError` for the first field with an invalid value."""
        super().check()
        for lr in self.learning_rates:
            replace(self, lr=lr, learning_rates=()).check()
        if self.learning_rates and self.out is not None:
            raise InputError(f"out must be None with several learning_rates, got {str(self.out)!r}")
        if (self.relax_at is None) != (self.relax_to is None):
            raise InputError("relax_at and relax_to need each other: give both, or neither")
        _check_size(self.batch_size, len(self.data.train))


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run measured. Arrays have one entry per state; accuracies are fractions."""

    steps: int
    """Steps that were trained; fewer than the recipe's if `patience` ended the run."""
    seeds: tuple[int, ...]
    parameters: int
    train: Mapping[str, np.ndarray]
    """The loss and the metrics on the training set, by name."""
    test: Mapping[str, np.ndarray]
    """The loss and the metrics on the test set; with `validate` on the held-out part."""
    skipped: np.ndarray
    """Steps that were skipped because a loss, gradient or update was not finite."""
    seconds: float
    states: States
    validated: bool = False
    """Whether `test` is of the held-out part."""
    history: tuple[Mapping[str, Any], ...] = ()
    """The lines of metrics while training, as in `metrics.jsonl`."""

    def __repr__(self) -> str:
        size = f"{self.steps:,} steps, seeds {', '.join(map(str, self.seeds))}"
        return f"<Result: {size}, {self.parameters:,} parameters, {measures_text(self.by_part())}>"

    def _repr_html_(self) -> str:
        facts = f"{self.parameters:,} parameters, {self.steps:,} steps, {self.seconds:.1f} s"
        return f"<p>{facts}</p>{measures_html(self.seeds, self.by_part())}"

    def by_part(self) -> dict[str, Mapping[str, np.ndarray]]:
        """Return the measures of the training and of the test or validation part."""
        return {"train": self.train, "validation" if self.validated else "test": self.test}

    @property
    def train_loss(self) -> np.ndarray:
        """Mean loss on the training set."""
        return self.train["loss"]

    @property
    def test_loss(self) -> np.ndarray:
        """Mean loss on the test set."""
        return self.test["loss"]

    @property
    def train_accuracy(self) -> np.ndarray:
        """Accuracy on the training set; a KeyError if it was not measured."""
        return self.train["accuracy"]

    @property
    def test_accuracy(self) -> np.ndarray:
        """Accuracy on the test set; a KeyError if it was not measured."""
        return self.test["accuracy"]

    def check_trained(self) -> None:
        """Raise `RunError` if no state took a step: it measured the initial weights."""
        if self.steps and (self.skipped == self.steps).all():
            raise RunError(
                f"all {self.steps} steps were skipped, because a loss, gradient or update was not "
                "finite: give a smaller lr"
            )


def check_batch(config: Config, examples: int, devices: DeviceMap) -> None:
    """Raise `InputError` if the batch and the seeds do not fit the devices and the training set."""
    seeds, size, parts = len(config.replicas), config.batch_size, config.accumulate
    if seeds % devices.groups:
        raise InputError(f"seeds must be a multiple of seed_groups ({devices.groups}), got {seeds}")
    if size % (devices.group_size * parts):
        factors = f"{devices.group_size} devices" + (f" × accumulate {parts}" if parts > 1 else "")
        raise InputError(f"batch_size must be a multiple of {factors}, got {size}")
    mixed = config.augment and config.augment[-1] in MIXING
    if mixed and size // devices.group_size % 2:
        raise InputError(
            f"batch_size must be even on each device for {config.augment[-1]}, which mixes pairs, "
            f"got {size} on {devices.group_size} devices"
        )
    _check_size(size, examples)


def _check_size(batch_size: int, examples: int) -> None:
    if batch_size > examples:
        raise InputError(
            f"batch_size must be at most the {examples} training examples, got {batch_size}"
        )


def check_model(model: nn.Module, recipe: Recipe, data: Dataset) -> int:
    """Return the number of parameters of `model`, by abstract evaluation only.

    Raises:
        InputError: If the model is not hashable, if its outputs do not fit the loss, the metrics
            and the targets, or if the optimizer cannot train it.
    """
    try:
        hash(model)
    except TypeError:
        raise InputError("the model must be hashable: use tuples, not lists, as fields") from None
    try:
        outputs, params = _shapes(model, data.input_shape)
    except InputError as error:
        raise InputError(f"on inputs of shape {data.input_shape} of {data.name}, {error}") from None
    except (TypeError, ValueError, FlaxError) as error:
        line = str(error).partition("\n")[0]
        raise InputError(
            f"the model cannot be called on inputs {data.input_shape} of {data.name}: {line}"
        ) from error
    check_outputs(outputs, recipe, data)
    _check_optimizer(model, of_programs(recipe), data.input_shape)
    return sum(leaf.size for leaf in jax.tree.leaves(params))


@lru_cache(maxsize=64)  # studies train a model many times, and abstract evaluation takes a second
def _shapes(model: nn.Module, input_shape: tuple[int, ...]) -> tuple[jax.ShapeDtypeStruct, Any]:
    """Return the shapes of the outputs for one input, and of the parameters."""
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)

    def run(x: Array, train: bool) -> tuple[Array, Any]:
        """Call the model as in training, or as in evaluation."""
        key, argument = jax.random.key(0), train_argument(model, train)
        variables = model.init(key, x, **train_argument(model, False))
        options: dict[str, Any] = (
            {"rngs": {"dropout": key}, "mutable": ["batch_stats"]} if train else {}
        )
        y: Any = model.apply(variables, x, **options, **argument)
        return y[0] if train else y, variables

    for train in (True, False):
        program, (outputs, variables) = jax.make_jaxpr(
            partial(run, train=train), return_shape=True
        )(x)
        check_padding(program)
    return outputs, variables.get("params", {})


@lru_cache(maxsize=64)
def _check_optimizer(model: nn.Module, recipe: Recipe, input_shape: tuple[int, ...]) -> None:
    """Raise `InputError` if the optimizer cannot train the model."""
    check_optimizer(recipe, _shapes(model, input_shape)[1])


def check_outputs(outputs: jax.ShapeDtypeStruct, recipe: Recipe, data: Dataset) -> None:
    """Raise `InputError` if loss and metrics cannot be computed from such outputs."""
    moving = {"crop", "flip", "shift", "cutmix"} & {*recipe.augment}
    if len(data.target_shape) > 1 and moving:
        raise InputError(
            f"augment must not move inputs where targets are maps {data.target_shape}, as of "
            f"{data.name}, got {sorted(moving)}: give transforms that move both"
        )
    classes = data.outputs if data.train.has_classes else None
    if recipe.loss == "cross-entropy" and classes and outputs.shape != (1, classes):
        raise InputError(
            f"the model must return {classes} values, one per class of {data.name}, got shape "
            f"{outputs.shape[1:]}: build it with num_classes={classes}"
        )
    labels = (data.train.y, data.test.y)
    if recipe.loss == "binary-cross-entropy" and not data.train.has_classes:
        least, most = min(y.min() for y in labels), max(y.max() for y in labels)
        if least < 0 or most > 1:
            raise InputError(
                f"loss binary-cross-entropy needs targets from 0 to 1, got {least:g} to {most:g} "
                f"in {data.name}: use another loss, or other targets"
            )
    y = jax.ShapeDtypeStruct((1, *data.train.y.shape[1:]), data.train.y.dtype)
    functions = make_loss(recipe), make_metrics(recipe)
    try:
        jax.eval_shape(partial(measure, *functions), outputs.update(dtype=jnp.float32), y)
    except InputError as error:
        raise InputError(f"on {data.name}, {error}") from None
    except Exception as error:  # a function of somebody else can raise anything
        names = ", ".join(str(plain(f)) for f in (recipe.loss, *recipe.metrics))
        line = " ".join(str(error).split())[:200]
        raise InputError(
            f"loss or metrics ({names}) cannot be computed from outputs {outputs.shape} and "
            f"targets {y.shape}: {line}"
        ) from error
