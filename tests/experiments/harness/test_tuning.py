"""Tuning finds the best of a surface, widens the grid at its ends, and never sees the test part."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cnn.data import Dataset
from cnn.errors import InputError
from cnn.train import Config
from experiments.harness import study, tuning
from experiments.harness.results import Name, Outcome, Points
from tests.small import config, waves

CONFIG = config(lr=1.0)


def found_on(
    surface: dict[str, float], grid: dict[str, tuple[float, ...]]
) -> tuple[dict[str, object], list[tuple[float, ...]]]:
    """Search where accuracy falls with the distance of log10 of each setting from `surface`.

    Zero counts as 1e-4.
    """
    asked = []

    def train(points: Points) -> dict[Name, Outcome]:
        outcomes = {}
        for name, one in points.items():
            values = [getattr(one, field) for field in grid]
            asked.append(tuple(values))
            distance = sum(
                abs(np.log10(max(value, 1e-4)) - np.log10(best))
                for value, best in zip(values, surface.values(), strict=True)
            )
            accuracy = 0.9 - 0.1 * distance + np.array([-0.01, 0.01])
            outcomes[name] = Outcome(1, {"test_accuracy": accuracy})
        return outcomes

    found = tuning.search(study.Tuning("s.py", grid=grid), {("a", "b"): [CONFIG]}, train)
    return found["a/b"], asked


def test_the_best_inside_the_grid() -> None:
    grid = {"lr": (0.01, 0.1, 1.0), "weight_decay": (0.0, 0.1)}
    found, asked = found_on({"lr": 0.1, "weight_decay": 1e-4}, grid)
    assert found["best"] == {"lr": 0.1, "weight_decay": 0.0}
    assert not found["unfinished"]
    assert sorted(asked) == sorted((lr, wd) for lr in grid["lr"] for wd in grid["weight_decay"])


def test_a_best_value_at_an_end_widens_the_grid() -> None:
    """Below 0.01 comes 1e-3, and above a decay of 0.1 that follows 0 comes 1."""
    grid = {"lr": (0.01, 0.1, 1.0), "weight_decay": (0.0, 0.1)}
    found, asked = found_on({"lr": 1e-3, "weight_decay": 1.0}, grid)
    assert found["best"] == {"lr": 1e-3, "weight_decay": 1.0}
    assert not found["unfinished"]
    assert {(1e-3, 0.1), (0.01, 1.0), (1e-3, 1.0), (1e-4, 1.0), (1e-3, 10.0)} <= set(asked)
    assert (1e-4, 0.0) not in asked


def test_a_grid_is_widened_four_times_at_most() -> None:
    found, asked = found_on({"lr": 1e-9}, {"lr": (0.01, 0.1)})
    assert found["unfinished"]
    assert [values for (values,) in asked] == pytest.approx([0.01, 0.1, 1e-3, 1e-4, 1e-5, 1e-6])


def test_of_equal_means_the_smallest_values() -> None:
    found = tuning._best({(0.2, 0.0): [0.5, 0.7], (0.1, 1.0): [0.6, 0.6], (0.1, 0.1): [0.7, 0.5]})
    assert found == (0.1, 0.1)


def test_the_neighbours_of_all_equally_good_values_are_tried() -> None:
    """A tie in the first grid: the better value, a decay of 1, is the neighbour of the larger."""
    accuracies = {0.01: 0.37, 0.1: 0.37, 1.0: 0.42}

    def train(points: Points) -> dict[Name, Outcome]:
        found = {name: accuracies.get(one.weight_decay, 0.3) for name, one in points.items()}
        return {
            name: Outcome(1, {"test_accuracy": np.array([mean - 0.01, mean + 0.01])})
            for name, mean in found.items()
        }

    grid = {"lr": (0.1,), "weight_decay": (0.01, 0.1)}
    found = tuning.search(study.Tuning("s.py", grid=grid), {("a",): [CONFIG]}, train)
    assert found["a"]["best"]["weight_decay"] == 1.0


def test_a_smaller_rate_within_one_standard_error_is_taken() -> None:
    """Every setting has the standard error 0.01: 0.69 is near enough to 0.70, and 0.68 is not."""

    def around(mean: float) -> list[float]:
        return [mean - 0.01, mean + 0.01]

    results = {(0.4, 0.0): around(0.7), (0.2, 0.0): around(0.691), (0.1, 0.0): around(0.68)}
    assert tuning._steadiest(results) == (0.2, 0.0)
    decayed = {(0.2, 0.1): around(0.695), (0.1, 0.1): around(0.685)}
    assert tuning._steadiest({**results, **decayed}) == (0.2, 0.1)
    assert tuning._steadiest({(0.2,): [0.5], (0.1,): [0.4]}) == (0.2,)


def test_the_neighbours_of_the_chosen_values_are_tried_too() -> None:
    """The best of the grid, (0.02, 0.1), has no better neighbour. The smaller rate of 0.01 is as
    good, is chosen, and has one: (0.01, 1)."""
    means = {(0.02, 0.1): 0.7, (0.01, 0.1): 0.695, (0.01, 1.0): 0.75}

    def train(points: Points) -> dict[Name, Outcome]:
        return {
            name: Outcome(
                1,
                {
                    "test_accuracy": means.get((one.lr, one.weight_decay), 0.5)
                    + np.array([-0.01, 0.01])
                },
            )
            for name, one in points.items()
        }

    grid = {"lr": (0.01, 0.02), "weight_decay": (0.0, 0.1)}
    found = tuning.search(study.Tuning("s.py", grid=grid), {("a",): [CONFIG]}, train)["a"]
    assert found["best"] == {"lr": 0.01, "weight_decay": 1.0}
    assert not found["unfinished"]


def test_the_parts_of_a_group_are_seeds() -> None:
    def train(points: Points) -> dict[Name, Outcome]:
        assert {name[-1] for name in points} == {"0", "1"}
        return {n: Outcome(1, {"test_accuracy": np.array([float(n[-1])])}) for n in points}

    made = study.Tuning("s.py", grid={"lr": (1.0,)})  # of one value nothing is next
    found = tuning.search(made, {("a",): [CONFIG, replace(CONFIG, seed=1)]}, train)
    assert found["a"]["tried"] == [[{"lr": 1.0}, [0.0, 1.0]]]


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    steps: int = 3
    batch_size: int = 8
    seeds: int = 2

    def load(self) -> Dataset:
        return waves()


SEEN: list[Config] = []


def points(settings: Settings) -> Points:
    found = {("a",): settings.config(CONFIG.model, settings.load())}
    SEEN.extend(found.values())
    return found


def made_study(folder: Path, **fields: object) -> study.Study[Settings]:
    made = study.Tuning(str(folder / "waves.py"), grid={"lr": (0.1, 0.2, 0.4)}, **fields)  # type: ignore[arg-type]
    return study.Study("Q?", "h.", ("point",), points, tuning=made)


def test_a_study_tunes_on_the_validation_part_and_reads_what_it_found(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_study(tmp_path)
    SEEN.clear()
    made.run(Settings(out=tmp_path / "out", tune=True))
    assert [(c.seed, c.seeds, c.validate) for c in SEEN] == [(1000, 3, True)]
    written = json.loads((tmp_path / "tuned" / "waves.json").read_text())
    group = written["groups"]["a"]
    assert {len(accuracies) for _, accuracies in group["tried"]} == {3}
    assert written["seeds"] == [1000, 1001, 1002]
    assert written["steps"] == 3
    rows = [json.loads(r) for r in (tmp_path / "out" / "tuning.jsonl").read_text().splitlines()]
    assert all("validation_accuracy" in row and "test_accuracy" not in row for row in rows)
    assert not (tmp_path / "out" / "results.jsonl").exists()

    settings = Settings(out=tmp_path / "out")
    assert made.configs(settings)["a",].lr == group["best"]["lr"]
    assert made.configs(replace(settings, lr=0.7))["a",].lr == 0.7
    capsys.readouterr()
    assert made.configs(replace(settings, steps=4))["a",].lr == group["best"]["lr"]
    assert capsys.readouterr().err == "the points are tuned for 3 steps\n"


def test_what_was_tuned_on_other_data_is_not_used(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = made_study(tmp_path)
    groups = {"a": {"best": {"lr": 0.3}, "unfinished": False, "tried": [[{"lr": 0.3}, [0.5]]]}}
    (tmp_path / "tuned").mkdir()
    tuning.write(tmp_path / "tuned" / "waves.json", {"data": "digits", "steps": 3}, groups)
    assert made.configs(Settings())["a",].lr == study.LR
    assert capsys.readouterr().err == "1 points are not tuned on mnist1d-50k: a\n"


def test_what_was_tuned_before_is_replaced(tmp_path: Path) -> None:
    """Facts such as the steps are those of all groups in the file."""
    path = tmp_path / "waves.json"
    for name in ("a", "b"):
        tuning.write(path, {"data": "waves"}, {name: {"best": {"lr": 0.1}}})
    assert json.loads(path.read_text())["groups"] == {"b": {"best": {"lr": 0.1}}}


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"groups": {}}',
        '{"data": "d", "steps": 1, "groups": {"a": {}}}',
        '{"data": "d", "steps": 1, "groups": {"a": {"best": {"rate": 1}}}}',
    ],
    ids=range(5),
)
def test_a_file_that_holds_something_else_is_one_line(text: str, tmp_path: Path) -> None:
    made = made_study(tmp_path)
    assert made.tuning is not None
    made.tuning.path.parent.mkdir()
    made.tuning.path.write_text(text)
    with pytest.raises(InputError, match=r"waves.json does not hold what this study tunes"):
        made.configs(Settings())


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"learning_rate": (0.1,)}, "unknown tuned setting 'learning_rate'"),
        ({"batch_size": (8, 16)}, "unknown tuned setting 'batch_size'"),  # a setting decides it
        ({"lr": (0.2, 0.1)}, r"grid must have ascending values of lr, got \(0.2, 0.1\)"),
        ({"lr": ()}, r"grid must have ascending values of lr, got \(\)"),
        ({}, "grid must have a setting"),
    ],
    ids=range(5),
)
def test_grids_that_cannot_be_tried_are_one_line(grid: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        study.Tuning("s.py", grid=grid)


def test_without_accuracies_nothing_is_tuned_or_written(tmp_path: Path) -> None:
    def losses(settings: Settings) -> Points:
        return {("a",): settings.config(CONFIG.model, settings.load(), metrics=("top-2",))}

    made = replace(made_study(tmp_path), points=losses)
    with pytest.raises(InputError, match="point a must measure its accuracy to tune, got valid"):
        made.run(Settings(out=tmp_path / "out", tune=True))
    assert list(tmp_path.iterdir()) == []


def test_a_rate_of_zero_is_not_the_default() -> None:
    one = Settings(lr=0.0).config(CONFIG.model, waves())
    assert one.lr == 0.0
    with pytest.raises(InputError, match="lr must be positive"):
        one.check()


def test_points_without_a_group_are_not_tuned(tmp_path: Path) -> None:
    made = made_study(tmp_path, by=lambda name: None)
    assert made.tuning is not None
    assert made.tuning.groups({("a",): CONFIG}) == {}
    assert made.configs(Settings())["a",].lr == study.LR


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (Settings(tune=True, full=True), "tune: the tuned file of this study is for mnist1d-50k"),
        (Settings(tune=True, only=("a",)), "tune: all points are tuned together; leave --only out"),
    ],
    ids=["full", "only"],
)
def test_what_cannot_be_tuned_is_one_line(settings: Settings, message: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=message):
        made_study(tmp_path).run(replace(settings, out=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_a_study_without_tuning_says_so(tmp_path: Path) -> None:
    made = study.Study("Q?", "h.", ("point",), points)
    with pytest.raises(InputError, match="tune: this study tunes nothing; leave --tune out"):
        made.run(Settings(out=tmp_path / "out", tune=True))
    assert list(tmp_path.iterdir()) == []
