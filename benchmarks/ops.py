"""Times of operations: their definitions in `lax`, and the fast implementations for a CPU.

    python -m benchmarks.ops

Measures the forward pass, and the gradients of all arguments. What counts is the whole training
step (`benchmarks.train_step`): an operation that is faster alone can be slower there. Writes
`results/ops.json` and a table in `docs/performance.md`.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from etils import epy

from benchmarks import page
from benchmarks.workers import Timed, take_turns
from cnn.errors import unknown_name
from experiments.harness import cli

with epy.lazy_imports():
    import jax
    import jax.numpy as jnp

    from cnn import ops
    from cnn.ops import implementations


@dataclass(frozen=True, kw_only=True)
class Flags(page.Output):
    """Operations, and the length of a measurement."""

    only: tuple[str, ...] = ()
    """Operations by name; all if not given."""
    seconds: float = 0.2
    """Length of one turn."""
    rounds: int = 5
    """Turns of each implementation."""


def cases() -> dict[str, tuple[Callable, tuple[tuple[int, ...], ...]]]:
    """Return each operation, and the shapes of its arrays."""
    same = partial(ops.conv, padding="SAME")
    return {
        "1x1": (ops.conv, ((64, 16, 16, 128), (1, 1, 128, 128))),
        "3x3": (same, ((64, 16, 16, 128), (3, 3, 128, 128))),
        "3x3_stride_2": (partial(same, strides=2), ((64, 16, 16, 64), (3, 3, 64, 128))),
        "rgb": (same, ((64, 32, 32, 3), (3, 3, 3, 64))),
        "few_channels": (same, ((128, 28, 28, 1), (5, 5, 1, 6))),
        "few_windows": (partial(same, strides=2), ((64, 13, 13, 15), (5, 5, 15, 78))),
        "signal_stride_2": (partial(ops.conv, strides=2), ((256, 100, 3), (6, 3, 214))),
        "stem": (partial(same, strides=2), ((32, 64, 64, 3), (7, 7, 3, 64))),
        "patches": (partial(ops.conv, strides=4), ((32, 64, 64, 3), (4, 4, 3, 96))),
        "patches_of_a_map": (partial(ops.conv, strides=2), ((64, 32, 32, 64), (2, 2, 64, 128))),
        "depthwise": (partial(same, groups=64), ((64, 32, 32, 64), (3, 3, 1, 64))),
        "depthwise_7x7": (partial(same, groups=82), ((32, 10, 10, 82), (7, 7, 1, 82))),
        "two_filters_each": (partial(same, groups=7), ((32, 14, 14, 7), (7, 7, 1, 14))),
        "four_groups": (partial(same, groups=4), ((64, 28, 28, 64), (3, 3, 16, 64))),
        "32_groups": (partial(same, groups=32), ((64, 28, 28, 64), (3, 3, 2, 64))),
        "signal_14_groups": (partial(ops.conv, groups=14), ((256, 25, 84), (6, 6, 56))),
        "local": (ops.conv_local, ((128, 14, 14, 6), (10, 10, 5, 5, 6, 16))),
        "max_pool": (partial(ops.max_pool, window=2), ((64, 32, 32, 64),)),
        "max_pool_overlapping": (
            partial(ops.max_pool, window=3, strides=1, padding=1),
            ((64, 16, 16, 128),),
        ),
    }


def timed(f: Callable, shapes: tuple[tuple[int, ...], ...], implementation: str) -> Timed:
    """Compile `f` for random arrays of these shapes, and return a function that times it."""
    keys = jax.random.split(jax.random.key(0), len(shapes))
    arrays = [jax.random.normal(key, shape) for key, shape in zip(keys, shapes, strict=True)]
    with implementations.use(implementation):  # type: ignore[arg-type]
        compiled = jax.jit(f).lower(*arrays).compile()

    def run(steps: int) -> float:
        start = time.perf_counter()
        for _ in range(steps):
            jax.block_until_ready(compiled(*arrays))
        return time.perf_counter() - start

    run(1)
    return run


def gradient(f: Callable, count: int) -> Callable:
    """Return the gradients of Σ f² with respect to all `count` arguments."""
    return jax.grad(lambda *arrays: jnp.vdot(y := f(*arrays), y), tuple(range(count)))


def main(flags: Flags) -> None:
    """Measure, print, and write the times and the table."""
    known = cases()
    for name in set(flags.only) - set(known):
        raise unknown_name("operation", name, known)
    result, rows = {}, []
    for name in flags.only or known:
        f, shapes = known[name]
        row = [f"{name} {' '.join('×'.join(map(str, s)) for s in shapes)}"]
        for part, function in (("forward", f), ("gradients", gradient(f, len(shapes)))):
            both = {name: timed(function, shapes, name) for name in ("reference", "fastest")}
            times = result[f"{name} {part}"] = take_turns(both, flags.seconds, flags.rounds)
            ratio = statistics.median(times["reference"]) / statistics.median(times["fastest"])
            row += [*(page.spread(t) for t in times.values()), f"{ratio:.1f}"]
        rows.append(row)
    head = ["operation", "forward, definition", "fastest", "faster by"]
    table = page.markdown([*head, "gradients, definition", "fastest", "faster by"], rows)
    about = f"Milliseconds, median [least – most] of {flags.rounds} turns, {page.machine()}."
    print(table)
    page.publish("ops", flags, result, f"{about}\n\n{table}")


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
