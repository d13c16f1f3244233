"""Train several seeds of one model for several steps in one program.

On accelerators the cost is dispatch, so seeds are stacked (`vmap`) and steps are scanned. On a CPU
one program holds a single step of every seed, side by side. Of large batches, only as many seeds
as there are cores are, and these groups follow each other: the arrays of eight LeNets exceed the
cache. `python -m benchmarks.seeds` compares these ways.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array, Int

from cnn.train.state import TrainState
from cnn.train.step import Batch, Metrics

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
States = tuple[TrainState, ...]
"""One state per seed and learning rate."""
Rows = Int[Array, "batch steps seeds"] | Batch
"""Row numbers of the examples, or the examples with these leading axes. Devices split "batch"."""
Trained = list[tuple[TrainState, Metrics]]
"""For each seed, its state and the metrics of its steps, arrays `(steps,)`."""
Chunk = Callable[[States, Batch, Rows], Trained]

SMALL = 2**14
"""The most numbers of a batch on a CPU with which all seeds are side by side."""


def chunk_length(platform: str) -> int:
    """Return how many steps one call of the compiled program makes."""
    return 1 if platform == "cpu" else 50


def compose(step: Step, platform: str) -> Chunk:
    """Return the function `(states, data, rows) -> [(state, metrics) for each seed]`.

    `data` is the training set; the device gathers the examples of each step from it.
    """
    return _side_by_side(step) if platform == "cpu" else _stacked(step)


def gather(data: Batch, rows: Int[Array, " batch"] | Batch) -> Batch:
    """Return the examples at these row numbers; return `rows` itself if it holds examples."""
    return rows if isinstance(rows, Batch) else Batch(data.x[rows], data.y[rows])


def _side_by_side(step: Step) -> Chunk:
    step, at_once = jax.jit(step), os.cpu_count() or 1  # traced once for all seeds

    @jax.jit
    def together(states: States, batches: list[Batch]) -> list[tuple[TrainState, Metrics]]:
        with set_xla_metadata(inlineable="true"):  # what is inside the call of a group
            return [step(s, b) for s, b in zip(states, batches, strict=True)]

    def in_groups(states: States, batches: list[Batch]) -> list[tuple[TrainState, Metrics]]:
        if len(states) <= at_once or batches[0].x.size <= SMALL:
            return together(states, batches)
        pairs = []
        for i in range(0, len(states), at_once):
            with set_xla_metadata(inlineable="false"):  # XLA would mix the groups
                pairs += together(states[i : i + at_once], batches[i : i + at_once])
        return pairs

    def chunk(states: States, data: Batch, rows: Rows) -> Trained:
        history = []
        for k in range(jax.tree.leaves(rows)[0].shape[1]):
            now = [jax.tree.map(lambda a, k=k, i=i: a[:, k, i], rows) for i in range(len(states))]
            pairs = in_groups(states, [gather(data, r) for r in now])
            states, metrics = zip(*pairs, strict=True)
            history.append(metrics)
        return [(s, _stack(m)) for s, *m in zip(states, *history, strict=True)]

    return chunk


def _stacked(step: Step) -> Chunk:
    def chunk(states: States, data: Batch, rows: Rows) -> Trained:
        def all_seeds(states: TrainState, rows: Array) -> tuple[TrainState, Metrics]:
            def one_seed(state: TrainState, rows: Array) -> tuple[TrainState, Metrics]:
                return step(state, gather(data, rows))

            return jax.vmap(one_seed, in_axes=(0, 1))(states, rows)

        by_step = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), rows)
        stacked, history = lax.scan(all_seeds, _stack(states), by_step)
        metrics = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), history)
        return [jax.tree.map(lambda a, i=i: a[i], (stacked, metrics)) for i in range(len(states))]

    return chunk


def _stack(trees):  # type: ignore[no-untyped-def]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)
