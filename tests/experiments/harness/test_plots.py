"""A figure is a value: its data as JSON, and images as tiles."""

import json

import numpy as np
import pytest

from experiments.harness import claims, plots
from experiments.harness.plots import Curves, Figure, Image, Interval, Intervals, Reference, Series

SEEDS = [np.array([1.0, 3.0]), np.array([5.0, 5.0]), np.array([np.nan, 1.0])]


def test_json_holds_the_data() -> None:
    panels = [
        Curves([Series("a", SEEDS, range(3))], references=[Reference(x=(0, 1), label="here")]),
        Image(plots.tile(np.ones((3, 1, 1)), columns=2)),
    ]
    found = json.loads(json.dumps(plots.to_json(Figure(panels)), allow_nan=False))
    curves, image = found["panels"]
    assert (curves["kind"], image["kind"]) == ("Curves", "Image")
    assert curves["series"][0]["values"] == [[1, 3], [5, 5], [None, 1]]
    assert curves["references"][0]["x"] == [0, 1]
    assert image["values"] == [[1, None, 1], [None, None, None], [1, None, None]]


@pytest.mark.parametrize(
    ("numbers", "text"),
    [
        ((5.02, 4.11, 5.93), "+5.02 (+4.11 to +5.93)"),  # half of the width is 0.91
        ((-38.04, -39.3, -36.78), "−38.0 (−39.3 to −36.8)"),  # 1.26
        ((2, -58.2, 62.2), "+2 (−58 to +62)"),
        ((0.123456, 0.12, 0.126912), "+0.1235 (+0.1200 to +0.1269)"),  # 0.0035
        ((5.0249, 5.0249, 5.0249), "+5.02"),
        ((-0.5, -np.inf, np.inf), "−0.5, no interval"),
        ((np.nan, np.nan, np.nan), "no number"),
    ],
)
def test_an_interval_in_words(numbers: tuple[float, float, float], text: str) -> None:
    assert Interval("", *numbers).said == text


def verdict(text: str, measure: str, above: float, below: float = np.inf) -> claims.Verdict:
    claim = claims.Claim(text, ("a",), ("b",), above, below, measure=measure)
    return claims.Verdict(claim, 0.02, -0.01, 0.05, "cannot tell")


def test_intervals_of_verdicts() -> None:
    given = [
        verdict("up", "test_accuracy", 0.01),
        verdict("the same", "test_accuracy", -0.01, 0.01),
    ]
    (panel,) = plots.intervals(given).panels
    assert isinstance(panel, Intervals)
    assert panel.x_label == "difference in test accuracy (points)"
    expected = Interval("up", 2, -1, 5, 1, np.inf, "cannot tell")
    assert [panel.rows[0], panel.rows[1].label] == [expected, "the same"]
    assert (panel.rows[1].above, panel.rows[1].below) == (-1, 1)
    (panel,) = plots.intervals(given, part="validation").panels
    assert panel.x_label == "difference in validation accuracy (points)"


def test_measures_that_are_not_accuracies_have_panels_of_their_own() -> None:
    given = [
        verdict("loss", "test_loss", 0),
        verdict("up", "test_accuracy", 0),
        verdict("far", "shifted_accuracy", 0),
    ]
    figure = plots.intervals(given, "nats")
    labels = [panel.x_label for panel in figure.panels]
    assert labels == ["difference in accuracy (points)", "difference in test loss (nats)"]
    assert plots.intervals(given[:1]).panels[0].x_label == "difference in test loss"
    assert isinstance(figure.panels[1], Intervals)
    assert figure.panels[1].rows == [Interval("loss", 0.02, -0.01, 0.05, 0)]


def test_the_height_grows_with_the_rows_and_their_lines() -> None:
    short, long = verdict("a", "test_accuracy", 0), verdict("word " * 20, "test_accuracy", 0)
    heights = [plots.intervals(given).height for given in ([short], [short] * 2, [short, long])]
    assert np.diff(heights) == pytest.approx([0.35, 0.125], abs=1e-9)  # 2.8 lines, one line more


def test_a_note_and_a_legend_below_would_be_in_one_place() -> None:
    panels = [plots.Dots([plots.Series("a", [1])], ["x"])]
    assert plots.Figure(panels, legend="above", note="why").note == "why"
    with pytest.raises(ValueError, match="legend must not be below with a note, 'why'"):
        plots.Figure(panels, legend="below", note="why")
