"""Model FLOP utilization, with peak rates that a test says."""

import json
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest
from flax import linen as nn

from cnn.layers import Chain, Dense, Flatten
from cnn.train import fit, list_runs
from cnn.train.utilization import Utilization
from tests.small import config

LINEAR = Chain((Flatten(), Dense(2)))
"""On examples of 12 numbers it has 12 · 2 multiplications."""


def test_multiplications_over_time_and_peak() -> None:
    """A step has 24 MACs, 3 passes, 2 FLOPs each, 16 examples and 2 seeds: 4,608 FLOPs."""
    measured = Utilization(config(model=LINEAR, seeds=2, steps=30), peak_flops=9216.0)
    assert measured.measure(10, 5.0) is None  # the time before it has compilation
    assert measured.measure(20, 9.0) == pytest.approx(10 * 4608 / 4 / 9216)
    assert measured.measure(25, 10.0) == pytest.approx(5 * 4608 / 1 / 9216)


def test_a_network_that_changes() -> None:
    """12 MACs until step 10, 24 from there on."""
    before = Chain((Flatten(), Dense(1)))
    run = config(model=before, relax_to=LINEAR, relax_at=10, steps=20)
    measured = Utilization(run, peak_flops=1.0)
    measured.measure(8, 0.0)
    assert measured.measure(12, 2.0) == pytest.approx(6 * 16 * (2 * 12 + 2 * 24) / 2)


class Unknown(nn.Module):
    """Its multiplications are not known: the QR decomposition has its own."""

    @nn.compact
    def __call__(self, x: jax.Array) -> jax.Array:
        q = jnp.linalg.qr(x[..., 0].T @ x[..., 0])[0]
        return nn.Dense(2)(x[..., 0] @ q)


def test_what_is_not_known_is_not_guessed() -> None:
    for model, peak in ((LINEAR, None), (Unknown(), 1.0)):
        measured = Utilization(config(model=model), peak)
        assert [measured.measure(step, float(step)) for step in (1, 2)] == [None, None]


@pytest.mark.slow
def test_lines_of_metrics_and_runs_have_it_if_the_peak_is_known(tmp_path: Path) -> None:
    known, unknown = tmp_path / "known", tmp_path / "unknown"
    recipe = {"model": LINEAR, "log_every": 5}
    fit(config(known, **recipe), peak_flops=1e6)
    fit(config(unknown, **recipe))
    lines = [json.loads(line) for line in (known / "metrics.jsonl").read_text().splitlines()]
    assert "mfu" not in lines[0]
    for first, second in pairwise(lines[:-1]):
        seconds = second["seconds"] - first["seconds"]
        assert second["mfu"] == pytest.approx(5 * 6 * 24 * 16 / seconds / 1e6)
    assert "mfu" not in (unknown / "metrics.jsonl").read_text()
    rows = {row["run"]: row for row in list_runs(tmp_path)}
    assert rows["known"]["mfu"] == lines[-2]["mfu"]
    assert "mfu" not in rows["unknown"]
