"""Results, runs and rows of runs show as a line or as tables, and never as arrays."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pandas as pd

from cnn.train import Result, fit, list_runs, load_run
from tests.small import config


def cells(shown: str) -> list[list[str]]:
    """Return the text of every row of the tables in `shown`."""
    rows = re.findall(r"<tr>(.*?)</tr>", shown)
    return [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in rows]


def test_a_result_shows_means_over_its_seeds() -> None:
    accuracy, confusion = np.array([0.5, 0.7]), np.zeros((2, 3, 3))
    result = Result(
        steps=1200,
        seeds=(4, 5),
        parameters=1234,
        train={"loss": np.array([1.0, 2.0])},
        test={"accuracy": accuracy, "confusion": confusion},
        skipped=np.zeros(2, int),
        seconds=3.25,
        states=(),
    )
    assert repr(result) == (
        "<Result: 1,200 steps, seeds 4, 5, 1,234 parameters, train loss 1.5 ± 0.71, "
        "test accuracy 0.6 ± 0.14>"
    )
    shown = result._repr_html_()
    assert "1,234 parameters, 1,200 steps, 3.2 s" in shown
    assert cells(shown) == [
        ["seed", "train loss", "test accuracy"],
        ["4", "1", "0.5"],
        ["5", "2", "0.7"],
        ["mean ± s.d.", "1.5 ± 0.71", "0.6 ± 0.14"],
    ]


def test_a_run_and_rows_of_runs(tmp_path: Path) -> None:
    result = fit(config(tmp_path / "<one>", log_every=10, metrics=("accuracy", "confusion")))
    assert "array" not in repr(result) and len(repr(result)) < 200
    shown = load_run(tmp_path / "<one>")._repr_html_()
    assert "<one>" not in shown and "&lt;one&gt;" in shown
    facts = {row[0]: row[1] for row in cells(shown)}
    assert facts["checkpoint"] == "step 20"
    assert facts["data"] == "waves, examples of 12 × 1"
    assert (facts["model"], facts["lr"], facts["seeds"]) == ("Chain", "0.01", "1")
    assert facts["test accuracy"] == f"{result.test_accuracy[0]:.4g}"
    assert "test confusion" not in facts

    runs = list_runs(tmp_path)
    head, row = cells(runs._repr_html_())
    assert dict(zip(head, row, strict=True))["best of"] == "test_accuracy"
    assert row[:4] == ["&lt;one&gt;", "Chain", "waves", "finished"]
    frame = pd.DataFrame(runs)
    assert frame.loc[0, "test_accuracy"] == result.test_accuracy[0]
    assert frame.loc[0, "lr"] == 0.01


def test_a_result_on_the_held_out_part_says_so() -> None:
    result = fit(config(steps=1, validate=True))
    assert "validation accuracy" in repr(result)
    assert "validation accuracy" in result._repr_html_()
    assert "test accuracy" not in repr(result) + result._repr_html_()
