"""A run, back in Python: its model, weights and metrics, from its folder alone."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from etils import epy
from flax import linen as nn
from jaxtyping import Array, Float
from orbax import checkpoint as ocp

from cnn.buckets import BucketPath, bucket_path
from cnn.data import Dataset, Split
from cnn.errors import InputError
from cnn.layers.serialization import differences, from_spec, to_spec
from cnn.train import sampler
from cnn.train.checkpoints import CORRUPT, is_intact
from cnn.train.display import facts_html, line_facts
from cnn.train.files import read_json
from cnn.train.losses import make_loss
from cnn.train.metrics import make_metrics, measure
from cnn.train.mirror import copied
from cnn.train.recipe import FunctionLike, Recipe
from cnn.train.run_dir import CHECKPOINTS, RUN, read_metrics
from cnn.train.state import Tree
from cnn.train.step import forward

with epy.lazy_imports():
    from cnn import geometry, models

BATCH = 256
"""Examples that are evaluated at once."""


@dataclass(frozen=True, eq=False)
class Run:
    """A trained run at one of its checkpoints."""

    folder: Path | BucketPath
    step: int
    model: nn.Module
    variables: tuple[dict[str, Tree], ...]
    """Flax variables of every seed; with a moving average of the weights, that."""
    described: dict[str, Any]
    """What `run.json` says: model, data, recipe, versions, machine."""

    @property
    def config(self) -> dict[str, Any]:
        """The settings of the recipe that decide what is learned, as `run.json` holds them."""
        return dict(self.described["recipe"])

    @cached_property
    def metrics(self) -> list[dict[str, Any]]:
        """The lines of `metrics.jsonl`, as they are now."""
        with copied(self.folder) as folder:
            return read_metrics(folder)

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one example, `(*spatial, channels)`."""
        return tuple(self.described["data"]["shape"])

    def predict(
        self, x: Float[np.ndarray, "batch *spatial channels"], seed: int = 0
    ) -> Float[Array, "batch ..."]:
        """Return the outputs of the network in evaluation, for classes the logits.

        Args:
            x: Examples, standardized as those of the training set (`Dataset.mean`, `std`).
            seed: Which of the run's seeds, counted from 0.
        """
        variables = self.variables[self._checked(seed)]
        if tuple(x.shape[1:]) != self.input_shape:
            shape = ", ".join(map(str, self.input_shape))
            raise InputError(f"x must have shape (batch, {shape}), got {x.shape}")
        parts = [x[i : i + BATCH] for i in range(0, max(len(x), 1), BATCH)]
        apply = self._forward
        return jnp.concatenate([apply(variables, jnp.asarray(part)) for part in parts])

    @cached_property
    def _forward(self) -> Any:
        recipe = Recipe(precision=self.config["precision"])
        return jax.jit(partial(forward, self.model, recipe))

    def evaluate(
        self, data: Dataset | Split, metrics: Sequence[FunctionLike] = ()
    ) -> dict[str, np.ndarray]:
        """Return the mean loss and metrics of every seed.

        Args:
            data: A data set, whose test part is taken, or a split.
            metrics: As in `Recipe.metrics`.

        Raises:
            InputError: If the run's loss is a function that cannot be imported, or the data do not
                fit the network.
        """
        split = data.test if isinstance(data, Dataset) else data
        loss = self.config["loss"]
        if ".<locals>" in loss or "<lambda>" in loss:
            raise InputError(
                f"the loss of this run, {loss}, cannot be imported: use predict, and compute it"
            )
        recipe = Recipe(loss=loss, metrics=tuple(metrics))
        values = jax.jit(partial(measure, make_loss(recipe), make_metrics(recipe)))
        found: list[dict[str, np.ndarray]] = []
        for seed in range(len(self.variables)):
            total: dict[str, Any] = {}
            for rows, weights in sampler.evaluation_batches(len(split), BATCH):
                rows = rows[weights > 0]
                part = values(self.predict(split.x[rows], seed), jnp.asarray(split.y[rows]))
                for name, each in part.items():
                    total[name] = total.get(name, 0) + np.asarray(each, float).sum(axis=0)
            found.append({name: each / len(split) for name, each in total.items()})
        return {name: np.array([each[name] for each in found]) for name in found[0]}

    def describe(self) -> geometry.Geometry:
        """Return shapes, costs and receptive fields of the model's layers."""
        return geometry.describe(self.model, self.input_shape)

    def export(
        self, path: str | Path, seed: int = 0, state_dict: Mapping[str, Any] | None = None
    ) -> None:
        """Write weights and model to a `.safetensors` file, for `cnn.models.load`.

        With a torchvision `state_dict` of the same network, the arrays get its names and layout
        (see `cnn.models.save`).
        """
        variables = self.variables[self._checked(seed)]
        models.save(path, self.model, variables, self.input_shape, state_dict)

    def _checked(self, seed: int) -> int:
        if not 0 <= seed < len(self.variables):
            raise InputError(f"seed must be from 0 to {len(self.variables) - 1}, got {seed}")
        return seed

    def __repr__(self) -> str:
        return (
            f"Run({str(self.folder)!r}, step {self.step:,}, {len(self.variables)} seeds, "
            f"{type(self.model).__name__} on {self.described['data']['name']})"
        )

    def _repr_html_(self) -> str:
        settings = ("optimizer", "lr", "schedule", "steps", "batch_size", "loss", "seeds")
        shape = " × ".join(map(str, self.input_shape))
        facts = {
            "folder": str(self.folder),
            "checkpoint": f"step {self.step:,}",
            "model": type(self.model).__name__,
            "data": f"{self.described['data']['name']}, examples of {shape}",
            **{name: str(self.config[name]) for name in settings if name in self.config},
        }
        lines = [line for line in self.metrics if line["step"] <= self.step]
        return facts_html(facts | line_facts(lines[-1] if lines else {}))


def load_run(
    folder: str | Path, step: int | None = None, best: bool = False, model: nn.Module | None = None
) -> Run:
    """Return a run from its folder, at its newest checkpoint. Nothing in the folder changes.

    Args:
        folder: The folder that was `out`. One in a bucket is copied to this machine first.
        step: Load the checkpoint of this step.
        best: Load the checkpoint with the smallest validation loss in the metrics.
        model: The model, where its class is not one of `cnn.layers`: `run.json` holds only names,
            and no code that it names is imported.

    Raises:
        InputError: If there is no such run or checkpoint, it is damaged, or the model is another.
    """
    if bucket := bucket_path(str(folder)):
        with copied(bucket, checkpoints=True) as copy:
            return replace(load_run(copy, step, best, model), folder=bucket)
    folder = Path(folder)
    try:
        described = read_json(folder / RUN)
        steps = sorted(int(p.name) for p in (folder / CHECKPOINTS).iterdir() if p.name.isdecimal())
        spec, recipe = described["model"], described["recipe"]
    except (OSError, ValueError, LookupError, TypeError) as error:
        raise InputError(f"folder {str(folder)!r} is no run with checkpoints: {error}") from error
    step = _choose(folder, steps, step, best)
    if recipe.get("relax_at") is not None and step > recipe["relax_at"]:
        spec = described["relax_to"]
    return Run(folder, step, _model(spec, model), _variables(folder, step), described)


def _choose(folder: Path, steps: list[int], step: int | None, best: bool) -> int:
    """Return the step whose checkpoint is loaded."""
    if not steps:
        raise InputError(f"folder {str(folder)!r} has no checkpoint")
    if step is not None and best:
        raise InputError("step and best exclude each other: give one of them")
    if step is not None and step not in steps:
        raise InputError(f"step must be one of {', '.join(map(str, steps))}, got {step}")
    if not best:
        return steps[-1] if step is None else step
    scores: dict[int, float] = {}
    for line in read_metrics(folder):
        if line["step"] in steps and "validation_loss" in line:
            loss = np.asarray(line["validation_loss"], float).mean()
            scores[line["step"]] = float(loss) if loss == loss else np.inf
    if not scores:
        raise InputError(
            "best needs validation losses at the steps of checkpoints: train with keep_best, or "
            "with validate and evaluate_every"
        )
    return min(scores, key=lambda each: scores[each])


def _model(spec: dict[str, Any], given: nn.Module | None) -> nn.Module:
    if given is None:
        try:
            return from_spec(spec)
        except InputError as error:
            raise InputError(
                f"the model of this run, {spec.get('layer')}, cannot be made from run.json "
                f"({error}): import it, and give model"
            ) from error
    if other := differences(spec, to_spec(given)):
        raise InputError(f"model must be that of the run: {'; '.join(other[:3])}")
    return given


def _variables(folder: Path, step: int) -> tuple[dict[str, Tree], ...]:
    """Return what is evaluated of every seed, from the checkpoint of `step`."""
    path = (folder / CHECKPOINTS / str(step)).absolute()
    if not is_intact(path, step):
        raise InputError(
            f"the checkpoint of step {step} in {str(folder)!r} is damaged: choose another step, or "
            f"resume the run, which moves it to {CORRUPT}"
        )
    logging.getLogger("absl").setLevel(logging.CRITICAL)
    device = jax.sharding.SingleDeviceSharding(jax.local_devices()[0])
    with ocp.StandardCheckpointer() as reader:
        saved_as = reader.metadata(path / "states").item_metadata.tree
        target = jax.tree.map(
            lambda leaf: jax.ShapeDtypeStruct(leaf.shape, leaf.dtype, sharding=device), saved_as
        )
        states = reader.restore(path / "states", target)
    plain = ({k: state[k] for k in ("params", "batch_stats") if state[k]} for state in states)
    return tuple(
        state["average"] or variables for state, variables in zip(states, plain, strict=True)
    )
