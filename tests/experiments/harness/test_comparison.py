"""What a study shows by default. Intervals are Student's t, computed by hand: t(2) is 4.303."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from experiments.harness import comparison, drawing, plots
from experiments.harness.study import Name, Outcome, Points, Summary
from tests.small import config

A, B = np.array([0.50, 0.52, 0.54]), np.array([0.40, 0.40, 0.40])
"""Their differences are 10, 12 and 14 points: 12 ± 4.303 · 2 / √3."""


def points(*names: Name, **fields: Any) -> Points:
    return {name: config(**{"steps": 7, "seeds": 3} | fields) for name in names}


def summary(*of: np.ndarray, measure: str = "test_accuracy", **fields: Any) -> Summary:
    """Return the summary of the points w/1, w/2, ... which measured `of`."""
    names = [("w", str(i + 1)) for i in range(len(of))]
    outcomes = {n: Outcome(8, {measure: values}) for n, values in zip(names, of, strict=True)}
    return comparison.summarize(("net", "size"), points(*names, **fields), outcomes)


def test_a_difference_is_told_with_its_interval() -> None:
    found = summary(B, A)
    assert found.findings == [
        "Net w, size 2 has a higher test accuracy than net w, size 1: +12.00 points "
        "(95 % interval +7.03 to +16.97)."
    ]
    assert "has a lower test accuracy" in summary(A, B).findings[0]
    assert found.tables[0].caption == ("waves, mean ± standard deviation over 3 seeds, 7 steps")
    assert found.tables[0].heads == ["net", "size", "parameters", "test accuracy, %"]
    assert found.tables[0].rows == [
        ["w", "1", "8", "40.00 ± 0.00"],
        ["w", "2", "8", "52.00 ± 2.00"],
    ]
    assert found.tables[1].rows == [["net w, size 2 − net w, size 1", "+12.00", "+7.03 to +16.97"]]


def test_what_cannot_be_told_is_said() -> None:
    assert summary(B, np.array([0.45, 0.35, 0.43])).findings == [
        "Cannot tell from 3 seeds whether net w, size 2 or net w, size 1 has the higher test "
        "accuracy: the difference is +1.00 points (95 % interval -12.14 to +14.14)."
    ]
    assert summary(B[:1], A[:1], seeds=1).findings == [
        "Cannot tell from one seed whether net w, size 2 or net w, size 1 has the higher test "
        "accuracy: the difference is +10.00 points."
    ]
    same = summary(A, A).findings[0]
    assert same.startswith("Cannot tell") and "+0.00 to +0.00" in same
    assert summary(A, A[:2]).findings == [
        "Cannot compare net w, size 2 with net w, size 1: 2 and 3 seeds."
    ]
    assert summary(A, np.full(3, np.nan)).findings[0].startswith("Cannot tell")


def test_other_measures_than_accuracy() -> None:
    found = summary(B, A, measure="test_loss", validate=True)
    assert found.findings == [
        "Net w, size 2 has a higher validation loss than net w, size 1: +0.12 "
        "(95 % interval +0.0703 to +0.17)."
    ]
    assert found.tables[0].rows[1][-1] == "0.52 ± 0.02"
    assert "test top-5" in summary(B, A, measure="test_top-5").findings[0]
    assert "higher leak" in summary(B, A, measure="leak").findings[0]


def test_losses_of_different_kinds_are_not_compared() -> None:
    two = points(("a",)) | points(("b",), label_smoothing=0.1)
    found = comparison.summarize(("net",), two, {n: Outcome(8, {"test_loss": A}) for n in two})
    assert found.findings == ["The points have no measure in common, so nothing is compared."]
    assert len(found.tables) == 1 and not found.figures
    more = {n: Outcome(8, {"test_loss": A, "test_accuracy": A}) for n in two}
    assert "test accuracy" in comparison.summarize(("net",), two, more).findings[0]


def test_a_table_leaves_out_arrays_and_the_training_set() -> None:
    outcomes = {
        ("a",): Outcome(8, {"test_loss": A, "train_loss": A, "test_top-2": A, "map": A[:, None]}),
        ("b",): Outcome(8, {"test_loss": A}),
    }
    table = comparison.table(("net",), points(*outcomes), outcomes)
    assert table.heads == ["net", "parameters", "test top-2, %", "test loss"]
    assert table.rows[1] == ["b", "8", "–", "0.52 ± 0.02"]


def test_the_figure_has_the_last_part_on_its_axis_and_the_others_as_series() -> None:
    names = [("conv", "x"), ("conv", "y"), ("local", "y")]
    outcomes = {name: Outcome(8, {"test_accuracy": A}) for name in names}
    found = comparison.summarize(("net", "order"), points(*names), outcomes)
    (panel,) = found.figures["points"].panels
    assert isinstance(panel, plots.Dots)
    assert panel.categories == ["x", "y"]
    assert [series.label for series in panel.series] == ["conv", "local"]
    assert len({series.color for series in panel.series}) == 2
    np.testing.assert_allclose(panel.series[1].values[1], 100 * A)
    _, marks = drawing.draw(found.figures["points"])
    assert [mark.text.split(":")[0] for mark in marks] == ["conv", "conv", "local"]


@pytest.mark.parametrize("count", [1, 12])
def test_one_point_and_many(count: int) -> None:
    found = summary(*[A] * count)
    assert len(found.findings) == count - 1
    assert len(found.tables) == min(count, 2)
    (figure,) = found.figures.values()
    assert figure.panels[0].horizontal == (count == 12)  # type: ignore[attr-defined]
    drawing.draw(figure)
