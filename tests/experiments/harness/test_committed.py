"""Which lines of a study are taken, and which are not."""

import json
from pathlib import Path

import pytest

from cnn.errors import InputError
from experiments.harness import committed, results
from experiments.harness.study import Points
from tests.experiments.harness import tiny

STUDY, SETTINGS = tiny.module().STUDY, tiny.Settings()


@pytest.fixture(scope="module")
def lines() -> list[dict[str, object]]:
    """Return the lines that training would have left, with the keys of the points."""
    keys = results.keys(tiny.points(SETTINGS), None)
    measured = {"test_loss": 0.5, "train_loss": 0.1}
    named = {"measured": ["test_loss", "test_accuracy", "train_loss", "train_accuracy"]}
    return [
        tiny.line(rung, seed, **measured, **named, key=keys[(rung, "ordered"), seed])
        for rung, seed in tiny.ACCURACIES
    ]


def test_lines_are_taken_in_the_order_of_points(
    lines: list[dict[str, object]], tmp_path: Path
) -> None:
    """Lines of other settings stay, and of two lines of a key the later one is taken."""
    other = {**lines[0], "key": "of other settings", "test_accuracy": 0.1}
    older = {**lines[0], "test_accuracy": 0.2}
    tiny.write(tmp_path / "a.jsonl", [older, other, *lines[:0:-1], lines[0]])
    taken = committed.take(STUDY, SETTINGS, [tmp_path / "a.jsonl"])
    assert taken == lines
    committed.write(tmp_path / "b.jsonl", taken)
    assert [*map(json.loads, (tmp_path / "b.jsonl").read_text().splitlines())] == lines
    committed.write(tmp_path / "b.jsonl", taken)  # in place of what is there
    found = committed.read(tmp_path / "b.jsonl", STUDY, SETTINGS)
    assert found.found[tiny.CONV]["test_accuracy"].tolist() == [0.9, 0.92]
    assert found.validated == {}


def test_committed_lines_stay_where_the_results_have_none(
    lines: list[dict[str, object]], tmp_path: Path
) -> None:
    tiny.write(tmp_path / "committed.jsonl", lines)
    newer = {**lines[2], "test_accuracy": 0.85}
    tiny.write(tmp_path / "results.jsonl", [newer])
    paths = [tmp_path / "committed.jsonl", tmp_path / "results.jsonl"]
    assert committed.take(STUDY, SETTINGS, paths) == [*lines[:2], newer, lines[3]]


def test_points_that_are_the_same_network_have_lines_of_their_own(
    lines: list[dict[str, object]], tmp_path: Path
) -> None:
    twin = ("twin", "ordered")

    def points(settings: tiny.Settings) -> Points:
        return {**tiny.points(settings), twin: tiny.points(settings)[tiny.CONV]}

    study = tiny.module(points=points).STUDY
    tiny.write(tmp_path / "results.jsonl", [*lines, {**lines[0], "rung": "twin"}])
    taken = committed.take(study, SETTINGS, [tmp_path / "results.jsonl"])
    assert taken == [*lines, *({**line, "rung": "twin"} for line in lines[:2])]
    committed.write(tmp_path / "taken.jsonl", taken)
    found = committed.read(tmp_path / "taken.jsonl", study, SETTINGS).found
    assert found[twin]["test_accuracy"].tolist() == [0.9, 0.92]


def test_a_line_that_is_not_there_is_named(lines: list[dict[str, object]], tmp_path: Path) -> None:
    tiny.write(tmp_path / "results.jsonl", [*lines[:3], {**lines[3], "key": "another"}])
    with pytest.raises(InputError, match="no line of point local/ordered, seed 1: `python -m"):
        committed.take(STUDY, SETTINGS, [tmp_path / "results.jsonl"])


def test_the_points_of_choices_are_trained_with_a_part_held_out() -> None:
    """Pooled points are named without their last part where the best one is taken."""
    best = {("best",): [("local",)]}
    made = tiny.module(pooled=True, best_of=lambda settings, names: best, claims=()).STUDY
    points = made.configs(SETTINGS)
    held_out = made.held_out(SETTINGS, points)
    assert list(points) == [tiny.CONV, tiny.LOCAL]
    assert {name: config.validate for name, config in held_out.items()} == {tiny.LOCAL: True}
    assert not any(config.validate for config in points.values())


def test_lines_without_an_environment_are_counted() -> None:
    known, unknown = tiny.line("conv", 0), {"seed": 0}
    assert committed.origins([known, known, unknown]) == {
        "jax 0.10.2, platform cpu, implementations fastest, machine two cores, commit abc": 2,
        "environment unknown, machine unknown, commit unknown": 1,
    }
