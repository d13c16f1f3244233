"""When training pauses to be saved, and being asked to stop: after the step, or at once."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental import multihost_utils

from cnn.errors import RunError
from cnn.train.config import Config, is_due

Stop = Callable[[int], bool]
"""Whether to stop after a step, counted from 1."""


class Stopped(RunError):
    """Training ended after `step` steps because it was asked to, before its last one."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


def never(step: int) -> bool:
    """Do not stop."""
    return False


class Pauses:
    """Says after which steps a checkpoint is due: by steps, by minutes, or to stop."""

    def __init__(self, config: Config, stop: Stop) -> None:
        self._config, self._stop = config, stop
        self._last = time.monotonic()  # a clock that nobody sets
        self.stopping = False

    def __call__(self, step: int) -> bool:
        """Say whether to pause after `step`."""
        self.stopping = self._stop(step)
        # Processes must pause together, and their clocks differ.
        passed = time.monotonic() - self._last if jax.process_count() == 1 else 0.0
        late = passed > 60 * self._config.checkpoint_minutes
        pause = is_due(step, self._config.checkpoint_every, self._config) or late or self.stopping
        if pause:
            self._last = time.monotonic()
        return pause


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Ask to stop on the first SIGTERM or SIGINT; the second ends the process at once.

    With several processes JAX watches for SIGTERM, which may reach one of them alone, and makes all
    stop after the same step.
    """
    if jax.process_count() > 1:
        yield multihost_utils.reached_preemption_sync_point
        return
    asked: list[int] = []

    def ask(number: int, frame: FrameType | None) -> None:
        if asked:
            os._exit(128 + number)
        asked.append(number)

    before = {n: signal.signal(n, ask) for n in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield lambda step: bool(asked)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
