"""What it saves to train seeds together: one after another, side by side, or stacked.

    python -m benchmarks.seeds
    python -m benchmarks.seeds --network cnn1d --counts 1 8 64
    python -m benchmarks.seeds --platform gpu --precision bfloat16 --counts 1 32

The training program of `cnn.train` with SGD, on data in memory: seeds "in turn" are a call for
each, "side by side" stand in one program, "stacked" are mapped (`vmap`) and scanned over steps,
which is what `cnn.train` does on an accelerator, where those in turn are scanned, too; on a CPU it
puts them side by side. Writes `results/seeds.json` and a table in `docs/performance.md`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.page import PAGE
from benchmarks.workers import Where
from experiments.harness import cli

if TYPE_CHECKING:
    from flax import linen as nn

    from benchmarks.workers import Timed

BATCH, EXAMPLES = 128, 4096


@dataclass(frozen=True, kw_only=True)
class Flags(Where):
    """What is trained, and how many together."""

    network: Literal["lenet5", "cnn1d"] = "lenet5"
    """LeNet-5 on 28×28 images, or the ladder's network on 40 samples."""
    counts: tuple[int, ...] = (1, 2, 4, 8)
    """Numbers of seeds."""
    seconds: float = 1.0
    """Length of one turn."""
    rounds: int = 5
    """Turns of each."""
    out: Path = Path("results")
    """Folder for the times."""
    page: Path = PAGE
    """The Markdown file whose table is written anew."""


def ways(platform: str) -> dict[str, tuple[str, bool]]:
    """Return how each way is composed (`cnn.train.ensemble.compose`), and if seeds are alone."""
    return {"in turn": (platform, True), "side by side": ("cpu", False), "stacked": ("gpu", False)}


def timed(
    model: nn.Module, shape: tuple[int, ...], seeds: int, how: str, alone: bool, where: Where
) -> Timed:
    """Compile a way to train `seeds`; return the clock of so many of their calls."""
    import jax
    import jax.numpy as jnp

    from cnn.train.compile import programs
    from cnn.train.devices import BY_EXAMPLE_AND_SEED
    from cnn.train.ensemble import chunk_length, compose
    from cnn.train.optimizers import make_optimizer
    from cnn.train.recipe import Recipe
    from cnn.train.step import Batch, train_step

    recipe = Recipe(optimizer="sgd", lr=1e-3, precision=where.precision)
    made, tx = programs(model, recipe, shape), make_optimizer(recipe)
    run = made.devices.compile(
        compose(lambda s, b: train_step(model, tx, recipe, s, b), how),
        BY_EXAMPLE_AND_SEED,
        True,
    )
    x = jax.random.normal(jax.random.key(0), (EXAMPLES, *shape))
    data = Batch(x, jnp.arange(EXAMPLES, dtype=jnp.int32) % 10)
    states = [made.init(seed, recipe.lr) for seed in range(seeds)]
    groups = [(s,) for s in states] if alone else [tuple(states)]
    steps = chunk_length(how)
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
    from benchmarks.page import machine, markdown, publish, spread
    from benchmarks.workers import take_turns
    from cnn import models
    from cnn.errors import InputError
    from cnn.train.ensemble import chunk_length

    if min(flags.counts) < 1:
        raise InputError(f"counts {min(flags.counts)} cannot be: train one seed or more")
    flags.claim()
    composed = ways(flags.platform)
    model, shape = getattr(models, flags.network)(), (28, 28, 1)
    if flags.network == "cnn1d":
        shape = (40, 1)
    found, rows = {}, []
    for count in flags.counts:
        clocks = {way: timed(model, shape, count, *how, flags) for way, how in composed.items()}
        calls = take_turns(clocks, flags.seconds, flags.rounds)
        steps = {way: count * chunk_length(how) for way, (how, _) in composed.items()}
        times = found[str(count)] = {w: [t / steps[w] for t in calls[w]] for w in composed}
        alone = statistics.median(times["in turn"])
        faster = [f"{alone / statistics.median(times[way]):.2f}" for way in list(composed)[1:]]
        rows.append([str(count), *map(spread, times.values()), *faster])
    head = ["seeds", *composed, *(f"{way}, faster by" for way in list(composed)[1:])]
    table = markdown(head, rows)
    about = (
        f"Milliseconds for a step of one seed, {flags.network}, batch {BATCH}, {flags.precision}, "
        f"median [least – most] of {flags.rounds} turns, {machine()}."
    )
    print(table)
    publish(flags.called("seeds"), flags.page, flags.out, found, f"{about}\n\n{table}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
