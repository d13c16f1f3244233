"""`fit(config)`: train a population of seeds of one model, from a value to a measured result."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn

from cnn.data import Dataset, Split
from cnn.errors import InputError
from cnn.recipe import Recipe, identity
from cnn.spec import to_spec
from cnn.train import batches, records
from cnn.train.checkpoints import Checkpoints, open_checkpoints
from cnn.train.population import States
from cnn.train.programs import Programs, programs
from cnn.train.relax import relax
from cnn.train.step import Batch

BLOCK_EVERY = 20
"""Calls after which the host waits: fake CPU devices deadlock when too many run ahead."""


@dataclass(frozen=True, kw_only=True)
class Config(Recipe):
    """A training run: a model value, a data set, and the recipe.

    With `relax_at`, training goes on with `relax_to` from that step: `model` with less bias.
    """

    model: nn.Module
    data: Dataset
    relax_to: nn.Module | None = None

    @property
    def seed_range(self) -> range:
        """The seeds that train together."""
        return range(self.seed, self.seed + self.seeds)

    @property
    def stages(self) -> list[tuple[nn.Module, int]]:
        """The models that train one after the other, each with the step it trains until."""
        if self.relax_at is None or self.relax_to is None:
            return [(self.model, self.steps)]
        return [(self.model, self.relax_at), (self.relax_to, self.steps)]

    def check(self) -> None:
        """Raise `InputError` for the first field whose value cannot be."""
        super().check()
        if (self.relax_at is None) != (self.relax_to is None):
            raise InputError("relax_at and relax_to need each other: give both, or neither")


@dataclass(frozen=True, kw_only=True)
class Result:
    """What a run measured; arrays have one entry per seed, accuracies are fractions."""

    steps: int
    seeds: tuple[int, ...]
    parameters: int
    train_loss: np.ndarray
    train_accuracy: np.ndarray
    test_loss: np.ndarray
    test_accuracy: np.ndarray
    seconds: float
    states: States


def fit(config: Config, on_step: Callable[[int], None] | None = None) -> Result:
    """Train `config.seeds` seeds of `config.model` together and evaluate them.

    `on_step(n)` is called after every n steps, for whoever shows progress. With `config.validate`,
    the "test" figures are of the held-out part of the training set. Raises `InputError`, before
    anything is written, for whatever cannot work.
    """
    began = time.perf_counter()
    config.check()
    data = config.data.held_out() if config.validate else config.data
    parameters = [check_model(model, data) for model, _ in config.stages][-1]
    stages = [(programs(m, config, data.input_shape), until) for m, until in config.stages]
    (first, _), (last, _) = stages[0], stages[-1]
    check_batch(config, len(data.train.y), first.devices.number)
    if config.out is not None:
        records.check_folder(config.out, config.resume, config.overwrite)

    states: States = tuple(first.init(seed) for seed in config.seed_range)
    with ExitStack() as stack:
        start, checkpoints = 0, None
        if config.out is not None:
            start, states, checkpoints = open_run(config, data, states, stack)
        for program, until in stages:
            if start > until:
                continue
            if program is not first and start == config.relax_at:
                states = _relaxed(config, data, states)
            states = program.devices.replicate(states)
            for event in train(config, data.train, program, states, start, until):
                states = event.states
                if checkpoints is not None:
                    write(config, event, checkpoints, program)
                if on_step is not None:
                    on_step(event.advanced)
            start, states = until, program.devices.one(states)
        states = last.devices.replicate(states)
        on_train = evaluate(config, last, states, data.train)
        on_test = evaluate(config, last, states, data.test)
    result = Result(
        steps=config.steps,
        seeds=tuple(config.seed_range),
        parameters=parameters,
        train_loss=on_train["loss"],
        train_accuracy=on_train["accuracy"],
        test_loss=on_test["loss"],
        test_accuracy=on_test["accuracy"],
        seconds=time.perf_counter() - began,
        states=last.devices.one(states),
    )
    if config.out is not None:
        records.append(config.out / records.METRICS, final_record(result, config.validate))
    return result


def _relaxed(config: Config, data: Dataset, states: States) -> States:
    if config.relax_to is None:
        raise ValueError("a run without relax_to has nothing to relax to")
    return tuple(relax(s, config.model, config.relax_to, data.input_shape) for s in states)


def check_batch(config: Config, examples: int, devices: int) -> None:
    """Raise `InputError` if the batch does not fit the devices or the training set."""
    if config.batch_size % devices:
        raise InputError(
            f"batch_size {config.batch_size} is not divisible by {devices} devices: "
            f"give a multiple of {devices}, or fewer devices"
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


def open_run(
    config: Config, data: Dataset, states: States, stack: ExitStack
) -> tuple[int, States, Checkpoints]:
    """Open the run folder and return where to go on: step, states, and the checkpoints to write."""
    if config.out is None:
        raise ValueError("a run without a folder cannot be opened")
    whose = {
        "model": to_spec(config.model),
        "relax_to": config.relax_to and to_spec(config.relax_to),
        "data": {"name": data.name, "train": len(data.train.y), "shape": list(data.input_shape)},
        "recipe": identity(config),
    }
    records.open_folder(config.out, whose, config.overwrite)
    folder = config.out / records.CHECKPOINTS
    checkpoints = stack.enter_context(open_checkpoints(folder, whose))

    def like(step: int) -> States:
        relaxed = config.relax_at is not None and step > config.relax_at
        return _relaxed(config, data, states) if relaxed else states

    start, states = (config.resume and checkpoints.restore(like)) or (0, states)
    if start > config.steps:
        raise InputError(
            f"steps {config.steps} is behind the checkpoint of step {start}: give {start} or more"
        )
    records.rewind(config.out / records.METRICS, start)
    return start, states, checkpoints


@dataclass(frozen=True)
class Event:
    """Where training stands after some steps; `metrics`, one mean per seed, where a line is due."""

    step: int
    advanced: int
    states: States
    metrics: dict[str, np.ndarray] | None

    def record(self) -> dict[str, Any]:
        metrics = self.metrics or {}
        return {"step": self.step} | {f"train_{k}": v.tolist() for k, v in metrics.items()}


def write(config: Config, event: Event, checkpoints: Checkpoints, program: Programs) -> None:
    """Write the line of metrics and the checkpoint that are due after `event`."""
    if event.metrics is not None and config.out is not None:
        records.append(config.out / records.METRICS, event.record())
    if is_due(event.step, config.checkpoint_every, config):
        checkpoints.save(event.step, program.devices.one(event.states))


def is_due(step: int, every: int, config: Config) -> bool:
    """Say whether what happens every so many steps, and at the last one, happens after `step`."""
    return step % every == 0 or step == config.steps


def train(
    config: Config, split: Split, program: Programs, states: States, start: int, until: int
) -> Iterator[Event]:
    """Train from step `start` to `until`, yielding after every call of the program."""
    data = program.devices.replicate(_whole(split))
    every = (config.log_every, config.checkpoint_every)
    history = []
    at = start
    while at < until:
        length = min(program.chunk, until - at, *(n - at % n for n in every))
        rows = batches.chunk_rows(len(split.y), config.batch_size, config.seed_range, at, length)
        states, metrics = program.run(states, data, program.devices.split(rows))
        at += length
        history.append(program.devices.one(metrics))
        due = is_due(at, config.log_every, config) or at == until
        if due or len(history) % BLOCK_EVERY == 0:
            jax.block_until_ready(metrics)
        yield Event(at, length, states, _mean(history) if due else None)
        if due:
            history = []


def _whole(split: Split) -> Batch:
    return Batch(jnp.asarray(split.x), jnp.asarray(split.y))


def _mean(history: list[dict[str, jax.Array]]) -> dict[str, np.ndarray]:
    host = jax.device_get(history)
    return {k: np.concatenate([metrics[k] for metrics in host]).mean(axis=0) for k in host[0]}


def evaluate(
    config: Config, program: Programs, states: States, split: Split
) -> dict[str, np.ndarray]:
    """Return mean cross-entropy and accuracy of every seed on all examples of `split`."""
    totals = []
    for rows, weights in batches.in_order(len(split.y), config.batch_size):
        share = program.devices.split((Batch(split.x[rows], split.y[rows]), weights))
        totals.append(program.devices.one(program.evaluate(states, (), share)))
        if len(totals) % BLOCK_EVERY == 0:
            jax.block_until_ready(totals[-1])
    host = jax.device_get(totals)
    return {
        name: np.array(
            [sum(float(t[i][name]) for t in host) / len(split.y) for i in range(len(states))]
        )
        for name in ("loss", "accuracy")
    }


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
        **{name: float(values.mean()) for name, values in own.items()},
        "parameters": result.parameters,
        "seconds": round(result.seconds, 3),
        "seeds": list(result.seeds),
        "per_seed": {name: values.tolist() for name, values in own.items()},
    }
