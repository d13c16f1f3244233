"""Steps one after another, and what is measured on the way and at the end."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from cnn.data import Split
from cnn.train import run_dir, sampler
from cnn.train.compile import Programs
from cnn.train.config import Config, is_due
from cnn.train.devices import BY_EXAMPLE, BY_EXAMPLE_AND_SEED
from cnn.train.dispatch import Throttle
from cnn.train.ensemble import States
from cnn.train.input_pipeline import feed, is_resident
from cnn.train.non_finite import Diverged, finite, report
from cnn.train.step import Metrics

LOOK_EVERY = 20
"""Calls after which the metrics are looked at: a run that diverged ends soon."""


@dataclass(frozen=True)
class Event:
    """Where training stands after some steps.

    `metrics`, one mean per seed, are there where a line of them is due; `pause` where the states
    are to be looked at, and were seen to be finite.
    """

    step: int
    advanced: int
    states: States
    pause: bool
    metrics: dict[str, np.ndarray] | None

    def record(self) -> dict[str, Any]:
        """Return the line of metrics; a mean over no step is None."""
        own = {f"train_{k}": run_dir.finite_only(m) for k, m in (self.metrics or {}).items()}
        return {"step": self.step, **own}


def train(
    config: Config,
    split: Split,
    program: Programs,
    states: States,
    start: int,
    until: int,
    pause: Callable[[int], bool],
) -> Iterator[Event]:
    """Train from step `start` to `until`, yielding after every call of the program.

    `pause(step)` says whether the caller will look at the states. Raises `Diverged` where a loss or
    gradient is not finite, unless such steps are skipped.
    """

    def rows(at: int, length: int) -> np.ndarray:
        seeds = [seed for seed, _ in config.members]
        return sampler.chunk_rows(len(split.y), config.batch_size, seeds, at, length)

    data, share = feed(split, program.devices, BY_EXAMPLE_AND_SEED, range(start, until), rows)
    chunk = program.chunk if is_resident(split) else 1
    every = (config.log_every, config.checkpoint_every)
    history = []
    throttle = Throttle()
    at = start
    while at < until:
        length = min(chunk, until - at, *(n - at % n for n in every))
        trained = program.run(states, data, share(at, length))
        states, metrics = zip(*trained, strict=True)
        throttle.wait_if_ahead(metrics)
        at += length
        history.append(program.devices.one(metrics))
        log, pauses = is_due(at, config.log_every, config) or at == until, pause(at)
        window = None
        if log or pauses or len(history) % LOOK_EVERY == 0:
            window = _gather(history)
            if config.on_nan == "stop" and not finite(window).all():
                first = at - len(window["loss"])
                raise Diverged(report(config, states, len(split.y), window, first))
        yield Event(at, length, states, pauses, _mean(config, window) if log and window else None)
        if log:
            history = []


def _gather(history: list[Sequence[Metrics]]) -> dict[str, np.ndarray]:
    """Wait for the steps and return their metrics, `(steps, seeds)`."""
    seeds = list(zip(*jax.device_get(history), strict=True))
    return {
        name: np.stack([np.concatenate([m[name] for m in seed]) for seed in seeds], axis=1)
        for name in seeds[0][0]
    }


def _mean(config: Config, window: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return means over the steps that were not skipped, and how many were."""
    good = np.asarray(finite(window))
    values = {
        "loss": window["loss"],
        "accuracy": window["accuracy"],
        "gradient_norm": np.sqrt((window["gradient_norms"].astype(float) ** 2).sum(-1)),
    }
    steps = good.sum(0)
    with np.errstate(invalid="ignore"):
        means = {k: np.where(good, v, 0).sum(0) / steps for k, v in values.items()}
    return means | ({"skipped": (~good).sum(0)} if config.on_nan == "skip" else {})


def evaluate(
    config: Config, program: Programs, states: States, split: Split
) -> dict[str, np.ndarray]:
    """Return mean cross-entropy and accuracy of every seed on all examples of `split`."""
    parts = list(sampler.in_order(len(split.y), config.batch_size))
    how, every = BY_EXAMPLE, range(len(parts))
    data, share = feed(split, program.devices, how, every, lambda at, _: parts[at][0])
    totals: list[Sequence[Metrics]] = []
    throttle = Throttle()
    for at, (_, weights) in enumerate(parts):
        given = (share(at, 1), program.devices.split(weights, how))
        totals.append(program.devices.one(program.evaluate(states, data, given)))
        throttle.wait_if_ahead(totals[-1])
    seeds = list(zip(*jax.device_get(totals), strict=True))
    return {
        name: np.array([sum(float(sums[name]) for sums in seed) / len(split.y) for seed in seeds])
        for name in ("loss", "accuracy")
    }
