"""The list of runs: one row each, whatever state it is in."""

import csv
import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given

from cnn.errors import InputError
from cnn.train import Stopped, fit, list_runs, run_dir
from cnn.train.non_finite import Diverged
from experiments import runs
from tests.mutations import mutated
from tests.small import config, waves


def rows(folder: Path) -> dict[str, list[str]]:
    """The cells of a run by column."""
    shown = runs.table(folder, list_runs(folder)).rows
    return {row[0]: [row[runs.SHOWN.index(name)] for name in COLUMNS] for row in shown}


COLUMNS = ("model", "data", "status", "step", "best", "steps/s")


def test_every_state_a_run_can_be_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = waves()
    bad = dataclasses.replace(
        data, train=dataclasses.replace(data.train, x=np.full_like(data.train.x, 3e38))
    )
    fit(config(tmp_path / "a" / "done", steps=4, log_every=2))
    with pytest.raises(Stopped):
        fit(config(tmp_path / "halted", steps=4, log_every=1), stop=lambda step: step == 3)
    with pytest.raises(Diverged):
        fit(config(tmp_path / "apart", data=bad))
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / run_dir.RUN).write_text("{")
    found = rows(tmp_path)
    assert set(found) == {"a/done", "halted", "apart", "broken"}
    done = run_dir.read_metrics(tmp_path / "a" / "done")[-1]
    best = f"{100 * done['test_accuracy']:.2f} % test"
    assert found["a/done"][:5] == ["Chain", "waves", "finished", "4", best]
    assert found["halted"][2:4] == ["stopped", "3"]
    assert found["halted"][4].endswith(" training loss")
    assert found["apart"][2:] == ["diverged", "0", "–", "–"]
    assert found["broken"] == ["–", "–", "unreadable", "–", "–", "–"]
    with run_dir.locked(tmp_path / "halted"):
        assert rows(tmp_path)["halted"][2] == "running"
    runs.main(runs.Flags(tmp_path))
    assert "Runs in" in capsys.readouterr().out


def test_the_flop_utilization_has_a_column_if_a_run_has_it(tmp_path: Path) -> None:
    for name, mfu in (("on_tpu", {"mfu": 0.4567}), ("on_cpu", {}), ("broken", {"mfu": "x"})):
        (tmp_path / name).mkdir()
        described = {"data": {"name": "d"}, "model": {"layer": "Chain"}, "command": ""}
        (tmp_path / name / run_dir.RUN).write_text(json.dumps(described))
        line = {"step": 1, "train_loss": [1.0], "seconds": 2.0, **mfu}
        (tmp_path / name / run_dir.METRICS).write_text(json.dumps(line) + "\n")
    shown = runs.table(tmp_path, list_runs(tmp_path))
    assert shown.heads[-1] == "MFU"
    assert [row[-1] for row in shown.rows] == ["–", "–", "45.7 %"]
    (tmp_path / "on_tpu" / run_dir.METRICS).unlink()
    assert runs.table(tmp_path, list_runs(tmp_path)).heads[-1] == "steps/s"


def test_the_rate_is_of_one_start(tmp_path: Path) -> None:
    steps = [(10, 1.0), (20, 2.0), (30, 0.5)]  # resumed before the last
    lines = [json.dumps({"step": step, "seconds": seconds}) + "\n" for step, seconds in steps]
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / run_dir.RUN).write_text(json.dumps(RUN))
    for kept, rate in ((lines, "10"), (lines[:1], "–")):
        (tmp_path / "a" / run_dir.METRICS).write_text("".join(kept))
        assert rows(tmp_path)["a"][-1] == rate


@pytest.mark.parametrize(
    "described",
    [
        "[]",
        "[" * 100_000,
        '{"model": 1, "data": {"name": "a"}, "command": ""}',
        '{"model": {"layer": "a"}, "data": {"name": "a"}, "command": 3}',
        '{"overwritten": true}',
        "9" * 5000,
    ],
    ids=range(6),
)
def test_a_broken_run_does_not_hide_the_others(described: str, tmp_path: Path) -> None:
    whole = '{"model": {"layer": "a"}, "data": {"name": "a"}, "command": ""}'
    for name, text in {"broken": described, "whole": whole, "odd": whole}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / run_dir.RUN).write_text(text)
    (tmp_path / "odd" / run_dir.METRICS).write_text('{"step": 1, "test_accuracy": "high"}\n')
    found = rows(tmp_path)
    assert found["broken"][2] == found["odd"][2] == "unreadable"
    assert found["whole"][:4] == ["a", "a", "stopped", "0"]


RUN = {"model": {"layer": "Chain"}, "data": {"name": "waves"}, "command": "-m train"}
METRICS = [
    {"step": 1, "seconds": 1.0, "train_loss": [0.5]},
    {"step": 2, "seconds": 2.0, "final": True, "test_accuracy": [0.5]},
]


@pytest.mark.parametrize("value", [[], [10**400], {}, [None, 1], ["a"]], ids=range(5))
def test_a_measure_that_is_no_number(value: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / run_dir.RUN).write_text(json.dumps(RUN))
    line = json.dumps({"step": 1, "test_accuracy": value})
    (tmp_path / "a" / run_dir.METRICS).write_text(line + "\n")
    expected = "stopped" if value == [None, 1] else "unreadable"
    assert rows(tmp_path)["a"][2] == expected


@given(mutated([RUN, METRICS]))
@example([RUN | {"data": {"name": "\x1b[2J\ud800\n"}}, METRICS])
def test_a_mutated_run_has_a_row_that_can_be_printed(records: list[Any]) -> None:
    described, lines = [*records, [], []][:2]
    lines = lines if isinstance(lines, list) else [lines]
    with tempfile.TemporaryDirectory() as name:
        (folder := Path(name) / "a").mkdir()
        (folder / run_dir.RUN).write_text(json.dumps(described))
        text = "".join(json.dumps(line) + "\n" for line in lines)
        (folder / run_dir.METRICS).write_text(text)
        (row,) = runs.table(Path(name), list_runs(name)).rows
        assert "a" in runs.to_csv(list_runs(name))
    assert len(row) == len(runs.SHOWN)
    assert all(cell.isprintable() for cell in row)


def sweep(folder: Path) -> None:
    for lr in (1e-3, 1e-2, 1e-1):
        fields = {"validate": True, "evaluate_every": 5, "log_every": 5, "augment": ("flip",)}
        fit(config(folder / f"{lr:g}", lr=lr, seeds=2, **fields))


def test_rows_are_flat_for_a_data_frame(tmp_path: Path) -> None:
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    sweep(tmp_path)
    frame = pandas.DataFrame(list_runs(tmp_path)).set_index("run")
    assert frame.loc["0.01", ["lr", "seeds", "step", "status"]].tolist() == [
        0.01,
        2,
        20,
        "finished",
    ]
    assert frame.loc["0.01", "augment"] == "flip"
    assert frame.dtypes[["lr", "validation_accuracy", "best"]].tolist() == [float] * 3
    last = run_dir.read_metrics(tmp_path / "0.1")[-1]
    assert frame.loc["0.1", "validation_loss"] == last["validation_loss"]
    assert {len({*frame[name]}) for name in frame} <= {1, 2, 3}  # all can be hashed
    curve = run_dir.read_metrics(tmp_path / "0.1")
    means = [np.mean(line["validation_accuracy"]) for line in curve if "validation_loss" in line]
    assert frame.loc["0.1", "best"] == pytest.approx(max(means))


def test_conditions_order_csv_and_curves(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sweep(tmp_path / "runs")
    found = list_runs(tmp_path / "runs")

    def names(*conditions: str) -> list[str]:
        chosen = found
        for condition in conditions:
            chosen = runs.select(chosen, condition)
        return [row["run"] for row in chosen]

    assert names("lr<0.1", "lr >= 0.01") == ["0.01"]
    assert names("lr!=1e-2", "status=FINISHED") == ["0.001", "0.1"]
    assert names("model=mlp") == []
    assert names("clip_norm>0") == []  # not known of any run
    assert [row["lr"] for row in runs.ordered(found, "lr", descending=True)] == [0.1, 0.01, 0.001]
    chosen = {"filter": ("lr<0.05",), "sort": "best", "descending": True}
    out, plot = tmp_path / "a.csv", tmp_path / "curves"
    runs.main(runs.Flags(tmp_path / "runs", csv=out, plot=plot, **chosen))  # type: ignore[arg-type]
    lines = list(csv.DictReader(out.read_text().splitlines()))
    assert len(lines) == 2
    assert float(lines[0]["best"]) >= float(lines[1]["best"])
    assert {path.name for path in plot.iterdir()} == {"curves.png", "curves.svg"}
    capsys.readouterr()
    runs.main(runs.Flags(tmp_path / "runs", csv=Path("-"), **chosen))  # type: ignore[arg-type]
    assert capsys.readouterr().out == out.read_text()


def test_what_cannot_be_shown_is_one_line(tmp_path: Path) -> None:
    rows: list[dict[str, Any]] = [{"run": str(i), "lr": 0.1, "data": "a"} for i in range(9)]
    parts = {"test_accuracy": 0.9, "validation_loss": 0.3}
    mixed = [{"run": of, "best": value, "best_of": of} for of, value in parts.items()]
    cases: list[tuple[Any, str]] = [
        (lambda: runs.select(rows, "lr"), "filter must be NAME=VALUE or NAME<VALUE, got 'lr'"),
        (lambda: runs.select(rows, "lr<high"), "filter must compare with a number, got 'lr<high'"),
        (lambda: runs.select(rows, "rl=1"), "unknown column 'rl': did you mean 'lr'?"),
        (
            lambda: runs.ordered(mixed, "best"),
            "sort cannot compare the best of accuracy, loss: use",
        ),
        (lambda: runs.ordered(rows, "date"), "unknown column 'date': did you mean 'data'?"),
        (
            lambda: runs.draw(tmp_path, rows, tmp_path),
            "plot shows 1 to 7 runs, got 9: use",
        ),
        (lambda: runs.draw(tmp_path, [], tmp_path), "plot shows 1 to 7 runs, got 0"),
        (lambda: runs.draw(tmp_path, rows[:1], tmp_path), "plot needs runs that have lines of"),
        (lambda: list_runs(tmp_path / "none"), "does not exist: name one that holds runs"),
        (lambda: list_runs(tmp_path), "holds no run: name one that does"),
    ]
    for call, message in cases:
        with pytest.raises(InputError) as error:
            call()
        assert message in str(error.value)
