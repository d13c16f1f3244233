"""A trace of a few steps of a run: where their time goes, operation by operation.

    python -m experiments.train ... --out runs/a --profile
    xprof --logdir runs/a/profile

The package `xprof` shows it, by itself or in TensorBoard; the file `.trace.json.gz` opens in
Perfetto, too. `benchmarks.profile` prints a table of a benchmark's step instead.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

BEFORE, TRACED = 3, 10
"""Calls of the compiled program: those that are let pass, as the first compiles, and the traced."""


@contextmanager
def tracing(folder: Path | None) -> Iterator[Callable[[], None]]:
    """Yield a function to be called after every call of the program, which traces some of them.

    The trace is written into `folder`; None traces nothing. A run that is too short is told so on
    standard error.
    """
    import jax

    calls, end = 0, BEFORE + TRACED

    def stop() -> None:
        jax.block_until_ready(jax.live_arrays())
        jax.profiler.stop_trace()

    def called() -> None:
        nonlocal calls
        calls += 1
        if folder is not None and calls == BEFORE:
            jax.block_until_ready(jax.live_arrays())  # what was called before is not traced
            jax.profiler.start_trace(folder)
        if folder is not None and calls == end:
            stop()

    try:
        yield called
    finally:
        if folder is not None and BEFORE <= calls < end:
            stop()
        if folder is not None and calls <= BEFORE:
            print(f"profile: no trace, for the program was called {calls} times", file=sys.stderr)
