"""A trace of a few steps of a run: the time of each operation.

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

from etils import epy

with epy.lazy_imports():
    import jax

SKIPPED, TRACED = 3, 10
"""Numbers of calls of the compiled program: the first ones compile, the following are traced."""


@contextmanager
def tracing(folder: Path | None) -> Iterator[Callable[[], None]]:
    """Yield a function to call after every call of the program, which traces some of them.

    The trace is written into `folder`; None traces nothing. For a run that is too short, one line
    on standard error says that there is no trace.
    """
    calls, end = 0, SKIPPED + TRACED

    def stop() -> None:
        jax.block_until_ready(jax.live_arrays())
        jax.profiler.stop_trace()

    def called() -> None:
        nonlocal calls
        calls += 1
        if folder is not None and calls == SKIPPED:
            jax.block_until_ready(jax.live_arrays())  # earlier calls are not traced
            jax.profiler.start_trace(folder)
        if folder is not None and calls == end:
            stop()

    try:
        yield called
    finally:
        if folder is not None and SKIPPED <= calls < end:
            stop()
        if folder is not None and calls <= SKIPPED:
            print(f"profile: no trace, the program was called only {calls} times", file=sys.stderr)
