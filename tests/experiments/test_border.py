"""The border of networks without padding, as a study."""

from functools import reduce
from pathlib import Path

import numpy as np
import pytest

from cnn.errors import InputError
from cnn.geometry import describe
from experiments import border
from experiments.border import AT, BORDER, BY_PLACE, MIDDLE, VALID, ZEROS, Settings
from experiments.harness.study import Name, Outcome
from tests.experiments.made import check_figures, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path) -> None:
    border.STUDY.run(Settings(smoke=True, depths=(1, 2), out=tmp_path))
    names = {"results.jsonl", "border.png", "report.html", "summary.json"}
    assert names < {p.name for p in (tmp_path / "smoke").iterdir()}


def test_uses_of_one_layer_by_hand() -> None:
    """28 windows of 5 stay inside; with zeros there are 32, and 6 uses fall on padding."""
    inside = np.array([1, 2, 3, 4, *[5] * 24, 4, 3, 2, 1])
    np.testing.assert_allclose(border.uses(VALID, 1), inside / inside.mean(), rtol=1e-5)
    padded = np.array([3, 4, *[5] * 28, 4, 3])
    np.testing.assert_allclose(border.uses(ZEROS, 1), padded / padded.mean(), rtol=1e-5)


def test_uses_of_seven_layers_in_closed_form() -> None:
    """4 outputs are left: ones convolved with windows of ones; the first sample has one path."""
    paths = reduce(np.convolve, [np.ones(5)] * 7, np.ones(4))
    assert (len(paths), paths[0], paths.sum()) == (32, 1, 4 * 5**7)
    np.testing.assert_allclose(border.uses(VALID, 7), paths / paths.mean(), rtol=1e-4)


def test_the_greatest_depth_leaves_four_of_32_samples() -> None:
    maps = [describe(border.network(p, 7), (32, 1)).layers[-3].shape[0] for p in (VALID, ZEROS)]
    assert (border.DEEPEST, maps) == (7, [4, 32])
    with pytest.raises(InputError, match=r"depths must be at most 7: .* after 8 layers"):
        border.points(Settings(depths=(1, 8)))
    with pytest.raises(InputError, match="depths must be whole numbers from 1 on"):
        border.points(Settings(depths=(0,)))


def test_parameters_are_equal() -> None:
    counts = {describe(border.network(p, 3), (32, 1)).params for p in (VALID, ZEROS)}
    assert counts == {5 * 16 + 16 + 2 * (5 * 16 * 16 + 16) + 16 * 4 + 4}


def test_signals_differ_in_the_place_of_the_pattern_alone() -> None:
    """The pattern is taken away, which leaves noise of 0.5, the same for every place."""
    known = np.array([[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]])
    left = []
    for place in (0, 14, 28):
        split = border.placed(place)
        x = np.array(split.x)[..., 0]
        x[:, place : place + 4] -= known[split.y]
        left.append(x)
    np.testing.assert_allclose(left[0], left[1], atol=1e-6)
    np.testing.assert_allclose(left[0], left[2], atol=1e-6)
    assert left[0].std() == pytest.approx(0.5, abs=0.02)
    assert AT == {"border": (0, 28), "middle": (13, 15)}


def test_training_signals_have_patterns_everywhere_and_other_noise(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(border, "NOISE", 0.0)
    data = border.anywhere()
    starts = (np.asarray(data.train.x)[..., 0] != 0).argmax(1)
    counts = np.bincount(starts, minlength=29)
    assert len(counts) == 29
    assert counts.min() > 0.6 * 4000 / 29
    monkeypatch.setattr(border, "NOISE", 0.5)
    for count in ("TRAINED", "TESTED", "PLACED"):
        monkeypatch.setattr(border, count, 50)
    drawn = [border.anywhere(draw) for draw in (0, 1)]
    splits = [border.placed(0), *(part for data in drawn for part in (data.train, data.test))]
    assert len({np.asarray(split.x)[0].tobytes() for split in splits}) == 5


def test_measures_by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two seeds, two signals: the first seed is right once at places below 14, the other above."""

    def right(config: object, result: object, place: int) -> np.ndarray:
        return np.array([[place < 14, False], [place > 14, place == 0]])

    monkeypatch.setattr(border, "placed", lambda place: place)
    monkeypatch.setattr(border.predictions, "right", right)
    config = border.points(Settings(depths=(1,)))[VALID, "1"]
    found = border.measure(config, untrained(config))
    t, f = True, False
    np.testing.assert_array_equal(found[BORDER], [[t, f, f, f], [f, t, t, f]])
    np.testing.assert_array_equal(found[MIDDLE], [[t, f, f, f], [f, f, t, f]])
    by_place = [[0.5] * 14 + [0] * 15, [0.5] + [0] * 14 + [0.5] * 14]
    np.testing.assert_array_equal(found[BY_PLACE], by_place)


def made() -> dict[Name, Outcome]:
    """Return results in which no padding costs 1, 3 or 7 points at the border, by layers."""
    found: dict[Name, Outcome] = {}
    for padding in (VALID, ZEROS):
        for depth in (1, 3, 7):
            lost = np.array([depth, depth]) / 100 * (padding == VALID)
            values = {"test_accuracy": 0.5 - lost, BORDER: 0.5 - lost, MIDDLE: np.full(2, 0.5)}
            values[BY_PLACE] = np.full((2, 29), 0.5)
            found[padding, str(depth)] = Outcome(1, values)
    return found


def test_summary() -> None:
    summary = border.STUDY.conclude(Settings(depths=(1, 3, 7), seeds=2), made(), {})
    assert summary.findings[0].endswith("itself): 1: +1.0 ± 0.0, 3: +3.0 ± 0.0, 7: +7.0 ± 0.0.")
    assert summary.findings[1].endswith("itself): 1: +0.0 ± 0.0, 3: +0.0 ± 0.0, 7: +0.0 ± 0.0.")
    middle = reduce(np.convolve, [np.ones(5)] * 7, np.ones(4))[16]
    assert summary.findings[2].endswith(f"by layers: 1: 5, 3: 125, 7: {middle:,.0f}.")
    row = summary.tables[0].rows[0]
    assert row[:2] == ["valid", "1"]
    assert row[6:] == ["0.23", "1.1"]
    means = [one.mean for one in summary.verdicts]
    assert means == pytest.approx([0.01, 0.07, 0.02, 0.04, 0, 0])
    check_figures(summary)


def test_claims_are_about_points_of_the_study() -> None:
    known = {(p, str(depth)) for p in border.PADDINGS for depth in Settings().depths}
    assert {name for claim in border.CLAIMS for name, _ in claim.terms} <= known


def test_an_unknown_padding() -> None:
    with pytest.raises(InputError, match="unknown padding 'same'"):
        border.network("same", 1)
