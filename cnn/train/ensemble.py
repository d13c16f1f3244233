"""Several seeds of one model, several steps, one program: how they compose on each platform.

On accelerators dispatch is what costs: seeds are stacked (`vmap`) and steps scanned. On a CPU the
seeds stand side by side in the program of a single step, and share the cores: that is 1.02 to 1.08
times as fast as one after another for LeNet-5, where stacked seeds reach 0.92 to 1.05; but 0.44 for
the ladder's network (eight, one core; with the definitions in `lax` 0.28; `benchmarks.seeds`).
"""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Int

from cnn.train.state import TrainState
from cnn.train.step import Batch, Metrics

Step = Callable[[TrainState, Batch], tuple[TrainState, Metrics]]
States = tuple[TrainState, ...]
Rows = Int[Array, "batch steps seeds"] | Batch
"""Which examples make each batch, or these with the same first axes; devices split the first."""
Trained = list[tuple[TrainState, Metrics]]
"""For each seed, its state and the metrics of its steps, arrays `(steps,)`."""
Chunk = Callable[[States, Batch, Rows], Trained]


def chunk_length(platform: str) -> int:
    """Return how many steps one call of the compiled program makes."""
    return 1 if platform == "cpu" else 50


def compose(step: Step, platform: str) -> Chunk:
    """Return the chunk `(states, data, rows) -> [(state, metrics) for each seed]`.

    `states` holds one state per seed, `data` the whole training set, from which rows are picked
    on the device.
    """
    return _side_by_side(step) if platform == "cpu" else _stacked(step)


def pick(data: Batch, rows: Int[Array, " batch"] | Batch) -> Batch:
    """Return the examples at these rows, or those that are given in the place of rows."""
    return rows if isinstance(rows, Batch) else Batch(data.x[rows], data.y[rows])


def _side_by_side(step: Step) -> Chunk:
    one = jax.jit(step)  # traced once for all seeds

    def chunk(states: States, data: Batch, rows: Rows) -> Trained:
        history: list[list[Metrics]] = [[] for _ in states]
        for k in range(jax.tree.leaves(rows)[0].shape[1]):
            now = [jax.tree.map(lambda a, at=(k, i): a[:, *at], rows) for i in range(len(states))]
            pairs = [one(s, pick(data, r)) for s, r in zip(states, now, strict=True)]
            states = tuple(state for state, _ in pairs)
            for i, (_, metrics) in enumerate(pairs):
                history[i].append(metrics)
        return [(state, _stack(steps)) for state, steps in zip(states, history, strict=True)]

    return chunk


def _stacked(step: Step) -> Chunk:
    def chunk(states: States, data: Batch, rows: Rows) -> Trained:
        def one_step(population: TrainState, now: Array) -> tuple[TrainState, Metrics]:
            def one_seed(state: TrainState, rows: Array) -> tuple[TrainState, Metrics]:
                return step(state, pick(data, rows))

            return jax.vmap(one_seed, in_axes=(0, 1))(population, now)

        by_step = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), rows)
        population, history = lax.scan(one_step, _stack(states), by_step)
        metrics = jax.tree.map(lambda a: jnp.moveaxis(a, 1, 0), history)
        return [_at(i, (population, metrics)) for i in range(len(states))]

    return chunk


def _stack(trees):  # type: ignore[no-untyped-def]
    return jax.tree.map(lambda *leaves: jnp.stack(leaves), *trees)


def _at(i: int, tree: tuple[TrainState, Metrics]) -> tuple[TrainState, Metrics]:
    return jax.tree.map(lambda leaf: leaf[i], tree)
