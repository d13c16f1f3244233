"""Points in their folders: when a run is finished, and why one failed."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.harness import points, sweep_table
from experiments.harness.points import Failures, Goal
from experiments.harness.sweep_table import Row

GOAL = Goal(steps=30, patience=None, evaluate_every=None, measures=("train_loss", "test_loss"))


def write(out: Path, *lines: dict[str, Any]) -> Path:
    out.mkdir(exist_ok=True)
    (out / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return out


def final(step: int) -> dict[str, Any]:
    return {"step": step, "final": True, "train_loss": 1.0, "test_loss": 2.0}


def test_a_run_is_finished_when_its_last_line_has_all_it_should(tmp_path: Path) -> None:
    assert not GOAL.is_reached(tmp_path / "nowhere")
    out = write(tmp_path, {"step": 30, "train_loss": [1.0]})
    assert not GOAL.is_reached(out)
    write(out, {"step": 30, "train_loss": [1.0]}, final(30))
    assert GOAL.is_reached(out)
    assert not replace(GOAL, steps=40).is_reached(out)
    assert not replace(GOAL, measures=("test_accuracy",)).is_reached(out)


def test_a_run_that_stopped_early_is_finished_for_the_same_patience(tmp_path: Path) -> None:
    losses = [3.0, 1.0, 2.0, 2.0]
    lines = [{"step": 5 * i, "validation_loss": [loss]} for i, loss in enumerate(losses, 1)]
    out = write(tmp_path, *lines, final(20))
    assert replace(GOAL, patience=2, evaluate_every=5).is_reached(out)
    assert not replace(GOAL, patience=3, evaluate_every=5).is_reached(out)
    assert not GOAL.is_reached(out)


def test_failures_are_old_for_workers_that_begin_later(tmp_path: Path) -> None:
    first = Failures(tmp_path)
    assert not first.is_new("a") and first.why("a") == ""
    first.write("a", "too large")
    second = Failures(tmp_path)
    assert first.is_new("a") and not second.is_new("a")
    assert first.why("a") == second.why("a") == "too large"
    second.write("a", "too large")  # again, for the same reason
    assert second.is_new("a")
    second.remove("a")
    assert not first.is_new("a") and not list(tmp_path.iterdir())


def test_the_mean_is_over_seeds_and_of_numbers_only() -> None:
    per_seed = {"test_accuracy": [0.5, 1.0], "test_confusion": [[[1.0]]], "train_loss": [1.0, None]}
    line = {"step": 1, "test_accuracy": 0.75, "per_seed": per_seed}
    assert points.mean(line, "test_accuracy") == 0.75
    assert points.mean(line, "test_confusion") is None
    assert points.mean(line, "train_loss") is None
    assert sweep_table.summary(line, "test") == "test accuracy 75.00 ± 35.36 %, training loss –"


def row(name: str, status: str, loss: float | None = None) -> Row:
    line = {} if loss is None else {"step": 1, "per_seed": {"validation_loss": [loss]}}
    return Row({"lr": name}, f"lr={name}", status, line)


def test_rows_are_ordered_by_the_objective_finished_ones_first() -> None:
    rows = [row("a", "failed"), row("b", "pruned", 0.1), row("c", "finished", 0.3)]
    rows += [row("d", "finished"), row("e", "finished", 0.2), row("f", "waiting")]
    for maximize, order in ((False, "ecdbaf"), (True, "cedbaf")):
        found = sweep_table.ordered(rows, "validation_loss", maximize)
        assert "".join(each.values["lr"] for each in found) == order
    shown = sweep_table.table(rows, "caption", "validation", None)
    assert shown.heads == [
        "lr",
        "status",
        "parameters",
        "validation loss",
        "training loss",
        "folder",
    ]
    assert shown.rows[2] == ["c", "finished", "", "0.3000", "–", "lr=c"]
    assert rows[2].plain()["validation_loss"] == 0.3
