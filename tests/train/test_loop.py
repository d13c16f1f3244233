"""What the loop does between two lines of metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from cnn.train import fit, loop
from tests.small import config


def test_every_step_is_fetched_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """However seldom a line of metrics is due: not the window again at each check."""
    fetched: list[int] = []
    gather = loop._gather

    def count(pending: list[Any]) -> dict[str, Any]:
        new = gather(pending)
        fetched.append(len(new["loss"]))
        return new

    monkeypatch.setattr(loop, "_gather", count)
    monkeypatch.setattr(loop, "CHECK_EVERY", 2)
    seldom = fit(config(steps=40, log_every=40))
    assert sum(fetched) == 40
    often = fit(config(steps=40, log_every=5))
    assert sum(fetched) == 80
    np.testing.assert_array_equal(seldom.test_loss, often.test_loss)
