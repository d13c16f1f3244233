"""What it saves to train seeds together: one after another, side by side, or stacked.

    python -m benchmarks.seeds
    python -m benchmarks.seeds --network cnn1d --counts 1 8 64

The training program of `cnn.train` with SGD, on data in memory: seeds "in turn" are a call for
each, "side by side" stand in one program, "stacked" are mapped (`vmap`) and scanned over steps,
which is what `cnn.train` does on an accelerator; on a CPU it puts them side by side. Writes
`results/seeds.json` and a table in `docs/performance.md`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from benchmarks.page import PAGE
from experiments import cli

if TYPE_CHECKING:
    from flax import linen as nn

    from benchmarks.workers import Timed

WAYS = {"in turn": ("cpu", True), "side by side": ("cpu", False), "stacked": ("gpu", False)}
"""How each way is composed (`cnn.train.population.compose`), and whether seeds are alone."""
BATCH, EXAMPLES = 128, 4096


@dataclass(frozen=True, kw_only=True)
class Flags:
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


def timed(model: nn.Module, shape: tuple[int, ...], seeds: int, way: str) -> Timed:
    """Compile a way to train `seeds`; return the clock of so many of their calls."""
    import jax
    import jax.numpy as jnp

    from cnn.recipe import Recipe
    from cnn.train.devices import BY_EXAMPLE_AND_SEED
    from cnn.train.population import chunk_length, compose
    from cnn.train.programs import programs
    from cnn.train.step import Batch, optimizer, train_step

    recipe = Recipe(optimizer="sgd", lr=1e-3)
    platform, alone = WAYS[way]
    made, tx = programs(model, recipe, shape), optimizer(recipe)
    run = made.devices.compile(
        compose(lambda s, b: train_step(model, tx, recipe, s, b), platform),
        BY_EXAMPLE_AND_SEED,
        True,
    )
    x = jax.random.normal(jax.random.key(0), (EXAMPLES, *shape))
    data = Batch(x, jnp.arange(EXAMPLES, dtype=jnp.int32) % 10)
    states = [made.init(seed, recipe.lr) for seed in range(seeds)]
    groups = [(s,) for s in states] if alone else [tuple(states)]
    steps = chunk_length(platform)
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
    from cnn.train.population import chunk_length

    if min(flags.counts) < 1:
        raise InputError(f"counts {min(flags.counts)} cannot be: train one seed or more")
    model, shape = getattr(models, flags.network)(), (28, 28, 1)
    if flags.network == "cnn1d":
        shape = (40, 1)
    found, rows = {}, []
    for count in flags.counts:
        clocks = {way: timed(model, shape, count, way) for way in WAYS}
        calls = take_turns(clocks, flags.seconds, flags.rounds)
        steps = {way: count * chunk_length(platform) for way, (platform, _) in WAYS.items()}
        times = found[str(count)] = {w: [t / steps[w] for t in calls[w]] for w in WAYS}
        alone = statistics.median(times["in turn"])
        faster = [f"{alone / statistics.median(times[way]):.2f}" for way in list(WAYS)[1:]]
        rows.append([str(count), *map(spread, times.values()), *faster])
    head = ["seeds", *WAYS, *(f"{way}, faster by" for way in list(WAYS)[1:])]
    table = markdown(head, rows)
    about = (
        f"Milliseconds for a step of one seed, {flags.network}, batch {BATCH}, median "
        f"[least – most] of {flags.rounds} turns, {machine()}."
    )
    print(table)
    publish("seeds", flags.page, flags.out, found, f"{about}\n\n{table}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
