"""How far the host runs ahead of its devices."""

import time

import jax
import pytest

from cnn.train import dispatch
from cnn.train.dispatch import Throttle


@pytest.mark.parametrize(
    ("seconds", "waits", "moments"),
    [
        (1.0, [1, 2, 3, 4, 5, 6, 7, 8], 8),  # a single call exceeds the limit
        (dispatch.MAX_SECONDS / 3.5, [1, 2, 6, 10], 2),  # four calls exceed it
        (0.0, [1, 2, 22], 2),
    ],
)
def test_waits_by_hand(
    seconds: float, waits: list[int], moments: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The first call compiles, the second is the first one that is measured.

    After a single call it waits until the call's memory is free.
    """
    now = 100.0
    waited: list[int] = []
    slept: list[float] = []
    monkeypatch.setattr(time, "perf_counter", lambda: now)
    monkeypatch.setattr(time, "sleep", slept.append)
    monkeypatch.setattr(jax, "block_until_ready", waited.append)
    host = Throttle()
    for call in range(1, 30 if seconds == 0 else waits[-1] + 1):
        now += seconds + 5 * (call == 1)
        host.wait_if_ahead(call)
    assert waited == waits
    assert slept == [dispatch.FREE_SECONDS] * moments
