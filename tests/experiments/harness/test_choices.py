"""The best of several points is taken on the validation part, and tested."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest

from cnn.data import Dataset
from cnn.errors import InputError
from experiments.harness import study
from experiments.harness.study import Claim, Name, Outcome, Points, Results, Summary
from tests.small import model, waves

A, B, ZERO, BEST = ("a",), ("b",), ("zero",), ("best",)
SEEN: list[Results] = []


def accuracy(*values: float) -> Outcome:
    return Outcome(1, {"test_accuracy": np.array(values)})


@dataclass(frozen=True, kw_only=True)
class Settings(study.Settings):
    steps: int = 2
    batch_size: int = 8
    seeds: int = 2

    def load(self) -> Dataset:
        return waves()


def points(settings: Settings) -> Points:
    data = settings.load()
    models = {A: model(), B: model(features=5), ZERO: model(norm=True)}
    return {name: settings.config(one, data) for name, one in models.items()}


def summarize(settings: Settings, results: Results) -> Summary:
    SEEN.append(results)
    return Summary(["A finding."], [], {})


STUDY = study.Study(
    "Q?",
    "h.",
    ("point",),
    points,
    summarize,
    claims=(Claim("the best is better than zero", BEST, ZERO, above=0.01),),
    best_of=lambda settings, names: {BEST: [name for name in names if name != ZERO]},
)


def test_what_is_best_on_the_test_part_is_not_taken() -> None:
    found = {A: accuracy(0.9, 0.91), B: accuracy(0.5, 0.51), ZERO: accuracy(0.4, 0.42)}
    validated = {A: accuracy(0.6, 0.6), B: accuracy(0.7, 0.8)}
    made = STUDY.conclude(Settings(), found, validated)
    chosen = SEEN[-1][BEST]
    assert chosen.chosen == B
    np.testing.assert_array_equal(chosen["test_accuracy"], found[B]["test_accuracy"])
    (verdict,) = made.verdicts
    assert verdict.mean == pytest.approx(0.095)
    assert made.notes == ["best is b: of 2, it has the highest validation accuracy."]
    assert made.lines()[1:] == [
        "Intervals cover the seeds, at 95%.",
        "A finding.",
        "best is b: of 2, it has the highest validation accuracy.",
    ]


def test_seeds_that_are_points_are_pooled_before_the_choice() -> None:
    pooled = study.Study(
        *("Q?", "h.", ("point", "draw"), points, summarize),
        best_of=lambda settings, names: {BEST: [A, B]},
        pooled=True,
    )
    found: dict[Name, Outcome] = {}
    validated: dict[Name, Outcome] = {}
    for draw in ("0", "1"):
        found |= {(*A, draw): accuracy(0.9), (*B, draw): accuracy(0.5)}
        # a is better in one draw, b in the mean
        validated |= {(*A, draw): accuracy(0.7), (*B, draw): accuracy(0.6 + 0.3 * int(draw))}
    pooled.conclude(Settings(), found, validated)
    assert list(SEEN[-1]) == [A, B, BEST]
    assert SEEN[-1][BEST].chosen == B
    np.testing.assert_array_equal(SEEN[-1][BEST]["test_accuracy"], [0.5, 0.5])


def test_a_study_without_a_summary_of_its_own_shows_the_choice() -> None:
    """Also where seeds are points: the names of the results have no last part then."""
    plain = replace(STUDY, summarize=None)
    found = {A: accuracy(0.9, 0.91), B: accuracy(0.5, 0.51), ZERO: accuracy(0.4, 0.42)}
    (table, *_) = plain.conclude(Settings(), found, found).tables
    assert [row[0] for row in table.rows] == ["a", "b", "zero", "best"]

    def drawn(settings: Settings) -> Points:
        return {(*name, "0"): config for name, config in points(settings).items()}

    pooled = replace(plain, points=drawn, labels=("point", "draw"), pooled=True)
    by_draw = {(*name, "0"): outcome for name, outcome in found.items()}
    (table, *_) = pooled.conclude(Settings(), by_draw, by_draw).tables
    assert table.heads[0] == "point"
    assert [row[0] for row in table.rows] == ["a", "b", "zero", "best"]


def test_claims_about_what_is_derived_from_several_points() -> None:
    """The sum of a and b, 1.4 and 1.42, exceeds b by 0.9 and 0.91."""

    def derive(settings: Settings, found: Results) -> Results:
        total = found[A]["test_accuracy"] + found[B]["test_accuracy"]
        return {("sum",): Outcome(1, {"total": total}), ("b alone",): Outcome(1, {"total": b})}

    b = np.array([0.5, 0.51])
    claim = Claim("a is large", ("sum",), ("b alone",), above=0.5, measure="total")
    mine = study.Study("Q?", "h.", ("point",), points, summarize, claims=(claim,), derive=derive)
    found = {A: accuracy(0.9, 0.91), B: accuracy(*b), ZERO: accuracy(0.4, 0.42)}
    (verdict,) = mine.conclude(Settings(), found, {}).verdicts
    assert verdict.mean == pytest.approx(0.905)
    assert list(SEEN[-1]) == [A, B, ZERO, ("sum",), ("b alone",)]
    (table, *_) = replace(mine, summarize=None).conclude(Settings(), found, {}).tables
    assert [row[0] for row in table.rows] == ["a", "b", "zero"]


def test_claims_that_are_not_tested_are_named() -> None:
    wrong = Claim("b beats what is not there", B, ("hero",), above=0.01)
    made = replace(STUDY, claims=(*STUDY.claims, wrong))
    found = {A: accuracy(0.9, 0.91), B: accuracy(0.5, 0.51), ZERO: accuracy(0.4, 0.42)}
    notes = made.conclude(Settings(), found, found).notes
    assert notes[-1] == "1 claims have points that were not run: b beats what is not there."


def test_choices_without_accuracies_are_refused_before_training(tmp_path: Path) -> None:
    def losses(settings: Settings) -> Points:
        made = points(settings)
        return {name: replace(config, metrics=("top-2",)) for name, config in made.items()}

    with pytest.raises(InputError, match="point a must measure its accuracy to take the best of"):
        replace(STUDY, points=losses).run(Settings(out=tmp_path / "out"))
    assert list(tmp_path.iterdir()) == []


def test_candidates_are_trained_twice_and_nothing_else(tmp_path: Path) -> None:
    made = STUDY.run(Settings(out=tmp_path / "out"))
    rows = [json.loads(r) for r in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    validated = [row["point"] for row in rows if "validation_accuracy" in row]
    tested = [row["point"] for row in rows if "test_accuracy" in row]
    assert sorted(validated) == ["a", "a", "b", "b"]
    assert sorted(tested) == ["a", "a", "b", "b", "zero", "zero"]
    mean = {
        name: np.mean(
            [
                row["validation_accuracy"]
                for row in rows
                if row["point"] == name and "validation_accuracy" in row
            ]
        )
        for name in ("a", "b")
    }
    assert SEEN[-1][BEST].chosen == (max(mean, key=lambda name: mean[name]),)
    report = (tmp_path / "out" / "report.html").read_text()
    assert "the best is better than zero" in report
    assert made.verdicts[0].verdict in report
    assert {path.name for path in (tmp_path / "out").glob("*.png")} == {"claims.png"}
