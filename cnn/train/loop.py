"""Steps one after another, and what is measured on the way and at the end."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np

from cnn.data import Split
from cnn.train import batches
from cnn.train.config import Config
from cnn.train.devices import BY_EXAMPLE, BY_EXAMPLE_AND_SEED
from cnn.train.feed import feed, is_resident
from cnn.train.population import States
from cnn.train.programs import Programs
from cnn.train.step import Metrics

BLOCK_EVERY = 20
"""Calls after which the host waits: fake CPU devices deadlock when too many run ahead."""


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


def is_due(step: int, every: int, config: Config) -> bool:
    """Say whether what happens every so many steps, and at the last one, happens after `step`."""
    return step % every == 0 or step == config.steps


def train(
    config: Config, split: Split, program: Programs, states: States, start: int, until: int
) -> Iterator[Event]:
    """Train from step `start` to `until`, yielding after every call of the program."""

    def rows(at: int, length: int) -> np.ndarray:
        seeds = [seed for seed, _ in config.members]
        return batches.chunk_rows(len(split.y), config.batch_size, seeds, at, length)

    data, share = feed(split, program.devices, BY_EXAMPLE_AND_SEED, range(start, until), rows)
    chunk = program.chunk if is_resident(split) else 1
    every = (config.log_every, config.checkpoint_every)
    history = []
    at = start
    while at < until:
        length = min(chunk, until - at, *(n - at % n for n in every))
        trained = program.run(states, data, share(at, length))
        states, metrics = zip(*trained, strict=True)
        at += length
        history.append(program.devices.one(metrics))
        due = is_due(at, config.log_every, config) or at == until
        if due or len(history) % BLOCK_EVERY == 0:
            jax.block_until_ready(metrics)
        yield Event(at, length, states, _mean(history) if due else None)
        if due:
            history = []


def _mean(history: list[Sequence[Metrics]]) -> dict[str, np.ndarray]:
    seeds = list(zip(*jax.device_get(history), strict=True))
    return {
        name: np.array([np.concatenate([m[name] for m in seed]).mean() for seed in seeds])
        for name in seeds[0][0]
    }


def evaluate(
    config: Config, program: Programs, states: States, split: Split
) -> dict[str, np.ndarray]:
    """Return mean cross-entropy and accuracy of every seed on all examples of `split`."""
    parts = list(batches.in_order(len(split.y), config.batch_size))
    how, every = BY_EXAMPLE, range(len(parts))
    data, share = feed(split, program.devices, how, every, lambda at, _: parts[at][0])
    totals = []
    for at, (_, weights) in enumerate(parts):
        given = (share(at, 1), program.devices.split(weights, how))
        totals.append(program.devices.one(program.evaluate(states, data, given)))
        if len(totals) % BLOCK_EVERY == 0:
            jax.block_until_ready(totals[-1])
    seeds = list(zip(*jax.device_get(totals), strict=True))
    return {
        name: np.array([sum(float(sums[name]) for sums in seed) / len(split.y) for seed in seeds])
        for name in ("loss", "accuracy")
    }
