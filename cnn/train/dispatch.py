"""Limit how far the host runs ahead of its devices."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import jax

MAX_CALLS = 20
"""Largest number of unfinished calls. Fake CPU devices deadlock with more."""
MAX_SECONDS = 0.1
"""Largest amount of unfinished work: enough to keep a device busy."""
FREE_SECONDS = 0.001
"""Seconds to wait for a busy CPU client to free a call's buffers."""


@dataclass
class Throttle:
    """Waits for the devices when more than `MAX_SECONDS` of work is unfinished.

    A CPU client allocates a call's memory at its dispatch, so a step dispatched ahead doubles it.
    """

    calls: int = 0
    since: float = 0.0
    seconds_per_call: float = float("inf")

    def wait_if_ahead(self, result: Any) -> None:
        """Count a call, and wait for its `result` if too much work is unfinished."""
        self.calls += 1
        if self.calls < MAX_CALLS and self.calls * self.seconds_per_call < MAX_SECONDS:
            return
        jax.block_until_ready(result)
        if self.calls == 1:
            time.sleep(FREE_SECONDS)
        now = time.perf_counter()
        self.seconds_per_call = (now - self.since) / self.calls
        self.calls, self.since = 0, now
