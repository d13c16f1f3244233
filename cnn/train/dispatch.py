"""How far the host calls ahead of what its devices have done."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax

MOST_CALLS = 20
"""Fake CPU devices deadlock when more are called ahead."""
MOST_SECONDS = 0.1
"""Of work that is called ahead: enough to keep a device busy."""
MOMENT = 0.001
"""Seconds in which a CPU, busy with other work, too, has taken back the memory of a call."""


@dataclass
class Throttle:
    """Waits where calls would be ahead of the devices by more than `MOST_SECONDS`.

    A CPU sets the memory of a call aside when it is called, not when it begins, and takes it back a
    moment after the result is there: a step of VGG16 that is called before needs as much again.
    """

    calls: int = 0
    since: float = 0.0
    seconds_per_call: float = float("inf")

    def wait_if_ahead(self, result: Any) -> None:
        """Note a call, and wait for its `result` where that is due."""
        self.calls += 1
        if self.calls < MOST_CALLS and self.calls * self.seconds_per_call < MOST_SECONDS:
            return
        jax.block_until_ready(result)
        if self.calls == 1:
            time.sleep(MOMENT)
        now = time.perf_counter()
        self.seconds_per_call = (now - self.since) / self.calls
        self.calls, self.since = 0, now
