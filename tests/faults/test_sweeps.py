"""A sweep ends with all points that can be trained, whatever the others do."""

from __future__ import annotations

import csv
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults.processes import SECONDS, environment
from tests.reliability import Tally

pytestmark = [pytest.mark.fault, pytest.mark.slow]


def test_points_that_fail_are_named_and_the_others_trained(tmp_path: Path, tally: Tally) -> None:
    """A mistake in a network, one that does not fit the data, too large a batch."""
    (tmp_path / "mine.py").write_text(
        "from flax import linen as nn\n"
        "class Net(nn.Module):\n"
        "    @nn.compact\n"
        "    def __call__(self, x): return x.no_such_thing\n"
    )
    args = ["--data", "digits", "--steps", "3", "--devices", "1", "--out", str(tmp_path / "out")]
    over = ["--over", "model=mine:Net,lecture_cnn,logistic", "--over", "batch_size=8,99999"]
    command = [sys.executable, "-m", "experiments.sweep", *args, *over]
    env = environment(tmp_path / "cache")
    env["PYTHONPATH"] = f"{Path.cwd()}:{tmp_path}"
    for _ in range(2):
        done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=SECONDS)
        assert done.returncode == 1
        assert done.stdout.count("failed") == 5
        last = done.stderr.splitlines()[-1]
        assert last.startswith("error: point ")
        assert "mine:Net" in last
        assert last.count("point ") == 5
        rows = csv.DictReader((tmp_path / "out" / "sweep.csv").read_text().splitlines())
        assert [row["model"] for row in rows if row["status"] == "finished"] == ["logistic"]
    tally("points of a sweep that failed: named, the others trained", 5)
