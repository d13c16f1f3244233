"""Steps one after another, and what is measured on the way and at the end."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn.data import Split
from cnn.train import batches
from cnn.train.config import Config
from cnn.train.population import States
from cnn.train.programs import Programs
from cnn.train.step import Batch

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
    data = program.devices.replicate(_whole(split))
    every = (config.log_every, config.checkpoint_every)
    seeds = [seed for seed, _ in config.population]
    history = []
    at = start
    while at < until:
        length = min(program.chunk, until - at, *(n - at % n for n in every))
        rows = batches.chunk_rows(len(split.y), config.batch_size, seeds, at, length)
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
