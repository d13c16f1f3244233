"""Times of training several seeds: in turn, or together in one program.

    python -m benchmarks.seeds
    python -m benchmarks.seeds --network cnn1d --counts 1 8 64
    python -m benchmarks.seeds --platform gpu --precision bfloat16 --counts 1 32

Runs the training program of `cnn.train` with SGD, on data in memory. Seeds "in turn" are one call
each. Seeds "side by side" are in one program, as `cnn.train` does on a CPU; on a GPU, `lax.map` is
timed instead. "Stacked" seeds are mapped (`vmap`) and scanned over steps, as `cnn.train` does on an
accelerator. Writes `results/seeds.json` and a table in `docs/performance.md`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from etils import epy

from benchmarks import page
from benchmarks.workers import Backend, Timed, take_turns
from cnn.errors import InputError
from experiments.harness import cli

with epy.lazy_imports():
    import jax
    import jax.numpy as jnp

    from cnn import models
    from cnn.train import compile, devices, ensemble, optimizers, step
    from cnn.train import recipe as recipes

if TYPE_CHECKING:
    from collections.abc import Callable

    from flax import linen as nn

    from cnn.train.ensemble import Chunk, States, Step, Trained
    from cnn.train.state import TrainState
    from cnn.train.step import Batch, Metrics

BATCH, EXAMPLES = 128, 4096


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output, Backend):
    """The network, and the numbers of seeds."""

    network: Literal["lenet5", "cnn1d"] = "lenet5"
    """LeNet-5 on 28×28 images, or the ladder's network on 40 samples."""
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of seeds."""
    seconds: float = 1.0
    """Length of one turn."""
    rounds: int = 5
    """Turns of each way."""


def ways(platform: str) -> dict[str, tuple[Callable[[Step], Chunk], int, bool]]:
    """Return, for each way, how it composes steps, how many, and whether a call has one seed."""

    def compose(platform: str) -> Callable[[Step], Chunk]:
        return lambda step: ensemble.compose(step, platform)

    together = {"cpu": ("side by side", compose("cpu"), 1), "gpu": ("lax.map", mapped, 50)}
    name, *how = together[platform]
    return {
        "in turn": (compose(platform), ensemble.chunk_length(platform), True),
        name: (*how, False),
        "stacked": (compose("gpu"), ensemble.chunk_length("gpu"), False),
    }


def mapped(step: Step) -> Chunk:
    """Return the program that trains one seed after another, many steps each."""

    def chunk(states: States, data: Batch, rows: jax.Array) -> Trained:
        def one_seed(inputs: tuple[TrainState, jax.Array]) -> tuple[TrainState, Metrics]:
            state, rows = inputs
            return jax.lax.scan(lambda s, r: step(s, ensemble.gather(data, r)), state, rows)

        together = jax.tree.map(lambda *leaves: jnp.stack(leaves), *states)
        trained = jax.lax.map(one_seed, (together, rows.transpose(2, 1, 0)))
        return [jax.tree.map(lambda a, i=i: a[i], trained) for i in range(len(states))]

    return chunk


def timed(
    model: nn.Module,
    shape: tuple[int, ...],
    seeds: int,
    compose: Callable[[Step], Chunk],
    steps: int,
    alone: bool,
    backend: Backend,
) -> Timed:
    """Compile a way to train `seeds`, and return a function that times calls of it."""
    recipe = recipes.Recipe(optimizer="sgd", lr=1e-3, precision=backend.precision)
    programs, tx = compile.programs(model, recipe, shape), optimizers.make_optimizer(recipe)
    run = programs.devices.compile(
        compose(lambda s, b: step.train_step(model, tx, recipe, s, b)),
        devices.BY_EXAMPLE_AND_SEED,
        True,
    )
    x = jax.random.normal(jax.random.key(0), (EXAMPLES, *shape))
    data = step.Batch(x, jnp.arange(EXAMPLES, dtype=jnp.int32) % 10)
    states = [programs.init(seed, recipe.lr) for seed in range(seeds)]
    groups = [(s,) for s in states] if alone else [tuple(states)]
    rows = jax.random.randint(jax.random.key(1), (BATCH, steps, len(groups[0])), 0, EXAMPLES)

    def clock(calls: int) -> float:
        start = time.perf_counter()
        for _ in range(calls):
            for i, group in enumerate(groups):
                groups[i] = tuple(state for state, _ in run(group, data, rows))
        jax.block_until_ready(groups)
        return time.perf_counter() - start

    clock(1)
    return clock


def main(flags: Flags) -> None:
    """Measure, print, and write the times and the table."""
    if min(flags.counts) < 1:
        raise InputError(f"counts must be positive, got {min(flags.counts)}")
    flags.select()
    composed = ways(flags.platform)
    model = getattr(models, flags.network)()
    shape = (28, 28, 1) if flags.network == "lenet5" else (40, 1)
    result, rows = {}, []
    for count in flags.counts:
        clocks = {way: timed(model, shape, count, *how, flags) for way, how in composed.items()}
        calls = take_turns(clocks, flags.seconds, flags.rounds)
        steps = {way: count * length for way, (_, length, _) in composed.items()}
        times = result[str(count)] = {w: [t / steps[w] for t in calls[w]] for w in composed}
        alone = statistics.median(times["in turn"])
        faster = [f"{alone / statistics.median(times[way]):.2f}" for way in list(composed)[1:]]
        rows.append([str(count), *map(page.spread, times.values()), *faster])
    head = ["seeds", *composed, *(f"{way}, faster by" for way in list(composed)[1:])]
    table = page.markdown(head, rows)
    about = (
        f"Milliseconds for a step of one seed, {flags.network}, batch {BATCH}, {flags.precision}, "
        f"median [least – most] of {flags.rounds} turns, {page.machine()}."
    )
    print(table)
    page.publish(flags.result_name("seeds"), flags, result, f"{about}\n\n{table}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
