"""The study of red and green boxes."""

from pathlib import Path

import numpy as np
import pytest

from cnn.errors import InputError
from experiments import position_leak
from experiments.position_leak import BORDERS, PARTS, Settings
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    position_leak.STUDY.run(Settings(smoke=True, out=tmp_path))
    out = tmp_path / "smoke"
    names = {
        "results.jsonl",
        "position_leak.png",
        "position_leak.svg",
        "report.html",
        "summary.json",
    }
    assert {p.name for p in out.glob("[!.]*")} == names
    assert position_leak.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_positions_of_the_boxes() -> None:
    images = position_leak.boxes(200, 0)
    for image, label in zip(images.x, images.y, strict=True):
        red, green = (np.argwhere(image[..., c]) for c in (0, 1))
        left, right = (green, red) if label else (red, green)
        assert len(red) == len(green) == 16
        assert left[:, 1].max() < right[:, 1].min() - 1  # a gap of one pixel or more
        assert left[:, 1].min() <= 9
        rows = np.concatenate([red, green])[:, 0]
        assert rows.min() >= 3 + 16 * label and rows.max() <= 13 + 16 * label
    assert images.y.sum() == 100


def test_how_often_a_unit_sees_both_boxes() -> None:
    """Windows of 17 every 8 pixels; valid convolution has none from pixel 25 on."""
    shares = {border: position_leak.sees_both_boxes(border) for border in BORDERS}
    assert shares["valid"] < shares["zero padding"] == shares["full"] < 1
    x = position_leak.red_green().test.x
    by_hand = 0
    for image in x:
        views = (image[8 * i : 8 * i + 17, 8 * j : 8 * j + 17] for i in (0, 1) for j in (0, 1))
        by_hand += any(v[..., 0].any() and v[..., 1].any() for v in views)
    assert shares["valid"] == pytest.approx(by_hand / len(x))


def test_where_no_window_is_cut_off_swapping_the_halves_changes_nothing() -> None:
    """16 pixels are twice the effective stride; "valid" sees less of one half than of the other."""
    points = position_leak.points(Settings(borders=("full", "valid")))
    found = {
        name: position_leak.measure(config, untrained(config)) for (name,), config in points.items()
    }
    assert found["full"]["similar"] == found["full"]["dissimilar"]
    assert found["valid"]["similar"] != found["valid"]["dissimilar"]


def test_summary() -> None:
    summary = position_leak.summarize(Settings(), outcomes(((b,) for b in BORDERS), *PARTS))
    assert "valid +0.0 (+0.0 to +0.0), zero padding +0.0" in summary.findings[0]
    assert summary.tables[0].rows[0] == ["valid", "1.00 ± 1.41", "100.0", "1.00 ± 1.41", "0.2"]
    check_figures(summary)


def test_an_unknown_border() -> None:
    with pytest.raises(InputError, match="unknown border 'vald'"):
        position_leak.points(Settings(borders=("vald",)))
