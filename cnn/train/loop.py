"""The training loop, and evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import jax
import numpy as np

from cnn.data import Split
from cnn.train import sampler
from cnn.train.compile import Programs
from cnn.train.config import Config
from cnn.train.devices import BY_EXAMPLE, BY_EXAMPLE_AND_SEED
from cnn.train.dispatch import Throttle
from cnn.train.ensemble import States
from cnn.train.input_pipeline import make_inputs, on_device
from cnn.train.non_finite import Diverged, are_finite, divergence_report, is_finite
from cnn.train.step import Metrics

CHECK_EVERY = 20
"""Calls between two checks of the metrics, so that a run that diverged ends soon."""


@dataclass(frozen=True)
class Event:
    """The state of training after some steps."""

    step: int
    advanced: int
    states: States
    checkpoint: bool
    """Whether a checkpoint is due. The states were then checked to be finite."""
    evaluate: bool
    """Whether an evaluation is due. The states were then checked, too."""
    metrics: dict[str, np.ndarray]
    """Means per seed if a line of metrics is due, NaN if all steps were skipped; else empty."""


def train(
    config: Config,
    split: Split,
    program: Programs,
    states: States,
    start: int,
    until: int,
    checkpoint_due: Callable[[int], bool],
) -> Iterator[Event]:
    """Train from step `start` to `until` and yield after every call of the program.

    Raises:
        Diverged: If a loss, gradient or update is not finite, unless such steps are skipped.
    """

    seeds = [seed for seed, _ in config.replicas]

    def rows(start: int, length: int) -> np.ndarray:
        return sampler.chunk_rows(len(split.y), config.batch_size, seeds, start, length)

    steps = range(start, until)
    data, batches = make_inputs(
        split, program.devices, BY_EXAMPLE_AND_SEED, steps, rows, config.transforms, seeds
    )
    chunk = program.chunk if on_device(split) and not config.transforms else 1
    pending: list[Sequence[Metrics]] = []  # on the devices
    window: list[dict[str, np.ndarray]] = []  # on the host, since the last line of metrics
    throttle, step = Throttle(), start
    every = [config.log_every, config.checkpoint_every]
    every += [config.evaluate_every] if config.evaluate_every else []
    while step < until:
        to_next = [n - step % n for n in every]
        length = min(chunk, until - step, *to_next)
        trained = program.run(states, data, batches(step, length))
        states, metrics = zip(*trained, strict=True)
        throttle.wait_if_ahead(metrics)
        step += length
        pending.append(program.devices.unreplicate(metrics))
        log, checkpoint = step % config.log_every == 0 or step == until, checkpoint_due(step)
        evaluate_now = config.evaluate_every is not None and step % config.evaluate_every == 0
        if log or checkpoint or evaluate_now or len(pending) == CHECK_EVERY:
            new = _gather(pending)
            finite = np.array(is_finite(new)) | new.get("skipped", False)
            if checkpoint or evaluate_now or step == until:
                finite[-1] &= are_finite(program.devices.unreplicate(states))
            if not finite.all():
                first, count = step - len(finite), len(split.y)
                raise Diverged(divergence_report(config, states, count, new, finite, first))
            pending = []
            window.append(new)
        means = _mean(window) if log else {}
        yield Event(step, length, states, checkpoint, evaluate_now, means)
        if log:
            window = []


def _gather(history: list[Sequence[Metrics]]) -> dict[str, np.ndarray]:
    """Wait for the steps and return their metrics, `(steps, seeds)`."""
    seeds = list(zip(*jax.device_get(history), strict=True))
    return {
        name: np.stack([np.concatenate([m[name] for m in seed]) for seed in seeds], axis=1)
        for name in seeds[0][0]
    }


def _mean(parts: list[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Return the means over the steps that were not skipped, and the number of skipped steps."""
    window = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    norms = window.pop("gradient_norms").astype(float)
    window["gradient_norm"] = np.sqrt((norms**2).sum(-1))
    skipped = window.pop("skipped", None)
    taken = np.ones_like(window["loss"], bool) if skipped is None else ~skipped

    def mean(values: np.ndarray) -> np.ndarray:
        shape = *taken.shape, *[1] * (values.ndim - 2)
        with np.errstate(invalid="ignore"):
            total = np.where(taken.reshape(shape), values, 0).sum(0)
            return total / taken.sum(0).reshape(shape[1:])

    means = {name: mean(values) for name, values in window.items()}
    return means if skipped is None else {**means, "skipped": skipped.sum(0)}


def evaluate(
    config: Config, program: Programs, states: States, split: Split
) -> dict[str, np.ndarray]:
    """Return the mean loss and metrics of every seed on all examples of `split`."""
    batches = list(sampler.evaluation_batches(len(split.y), config.batch_size))
    devices, steps = program.devices, range(len(batches))
    data, inputs = make_inputs(split, devices, BY_EXAMPLE, steps, lambda i, _: batches[i][0])
    totals: list[Sequence[Metrics]] = []
    throttle = Throttle()
    for i, (_, weights) in enumerate(batches):
        batch = (inputs(i, 1), devices.shard(weights, BY_EXAMPLE))
        totals.append(devices.unreplicate(program.evaluate(states, data, batch)))
        throttle.wait_if_ahead(totals[-1])
    seeds = list(zip(*jax.device_get(totals), strict=True))
    return {
        name: np.array([sum(np.float64(sums[name]) for sums in seed) for seed in seeds])
        / len(split.y)
        for name in seeds[0][0]
    }
