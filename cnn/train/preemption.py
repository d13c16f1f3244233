"""When to save a checkpoint, and how to stop on a signal."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

import jax
from jax.experimental.multihost_utils import reached_preemption_sync_point

from cnn.errors import RunError
from cnn.train.recipe import Recipe

ShouldStop = Callable[[int], bool]
"""Whether to stop after a step, counted from 1."""


class Stopped(RunError):
    """Training was asked to stop, and ended after `step` steps, before its last one."""

    def __init__(self, step: int) -> None:
        super().__init__(f"stopped after step {step}")
        self.step = step


class CheckpointSchedule:
    """Decides after which steps to save: every so many steps or minutes, and before stopping."""

    def __init__(self, recipe: Recipe, stop: ShouldStop) -> None:
        self._recipe, self._stop = recipe, stop
        self._last = time.monotonic()  # setting the system clock does not change it
        self.stopping = False

    def __call__(self, step: int) -> bool:
        """Return whether to save a checkpoint after `step`."""
        recipe = self._recipe
        self.stopping = self._stop(step)
        # Processes must save together, and their clocks differ.
        passed = time.monotonic() - self._last if jax.process_count() == 1 else 0.0
        by_time = passed > 60 * recipe.checkpoint_minutes
        by_step = step % recipe.checkpoint_every == 0 or step == recipe.steps
        due = by_step or by_time or self.stopping
        if due:
            self._last = time.monotonic()
        return due


def _drop_output() -> None:
    """Let output to a closed terminal go nowhere: every write to it would be an error."""
    for descriptor in (1, 2):
        try:
            os.write(descriptor, b"")
        except OSError:
            os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)


@contextmanager
def stop_on_signals() -> Iterator[ShouldStop]:
    """Yield a function that asks to stop after SIGTERM, SIGINT or SIGHUP.

    A second signal exits at once, except for SIGHUP: a terminal that closes may send several, and
    what would be printed there is dropped. What `nohup` ignores stays ignored. With several
    processes JAX watches for SIGTERM, which may reach only one of them, and makes all stop after
    the same step. The other signals become SIGTERM.
    """
    received: list[int] = []
    alone = jax.process_count() == 1

    def handle(number: int, frame: FrameType | None) -> None:
        if received and number != signal.SIGHUP:
            os._exit(128 + number)
        if number == signal.SIGHUP:
            _drop_output()
        received.append(number)
        if not alone and len(received) == 1:
            os.kill(os.getpid(), signal.SIGTERM)

    handled = [signal.SIGINT, *([signal.SIGTERM] if alone else [])]
    if signal.getsignal(signal.SIGHUP) is not signal.SIG_IGN:
        handled.append(signal.SIGHUP)
    previous = {number: signal.signal(number, handle) for number in handled}
    try:
        yield (lambda step: bool(received)) if alone else reached_preemption_sync_point
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
