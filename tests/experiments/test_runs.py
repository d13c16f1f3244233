"""The list of runs: one row each, whatever state it is in."""

import dataclasses
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given

from cnn.train import Stopped, fit, run_dir
from cnn.train.non_finite import Diverged
from experiments import runs
from tests.mutations import mutated
from tests.small import config, waves


def rows(folder: Path) -> dict[str, list[str]]:
    found = sorted(path.parent for path in folder.rglob(run_dir.RUN))
    return {row[0]: row[1:] for row in runs.table(folder, found).rows}


def test_every_state_a_run_can_be_in(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = waves()
    bad = dataclasses.replace(
        data, train=dataclasses.replace(data.train, x=data.train.x * float("inf"))
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


def test_the_rate_is_of_one_start() -> None:
    steps = [(10, 1.0), (20, 2.0), (30, 0.5)]  # resumed before the last
    lines = [{"step": step, "seconds": seconds} for step, seconds in steps]
    assert runs.rate(lines) == "10"
    assert runs.rate(lines[:1]) == "–"


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
        (row,) = runs.table(Path(name), [folder]).rows
    assert len(row) == 7
    assert all(cell.isprintable() for cell in row)
