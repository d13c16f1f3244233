"""The study of red and green boxes."""

from pathlib import Path

import numpy as np
import pytest

from cnn.errors import InputError
from experiments import position_leak
from experiments.harness.study import Outcome
from experiments.position_leak import BORDERS, PARTS, Settings
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    position_leak.STUDY.run(Settings(smoke=True, out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "position_leak.png", "position_leak.svg", "report.html"}
    assert names <= {p.name for p in out.glob("[!.]*")}
    printed = capsys.readouterr().out
    assert position_leak.HYPOTHESIS in " ".join(printed.split())
    for claim in position_leak.CLAIMS:
        assert claim.text in printed
    assert f"- holds: {position_leak.CLAIMS[3].text}: +0.0 points (+0.0 to +0.0)" in printed


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


@pytest.mark.slow
def test_where_no_window_is_cut_off_swapping_the_halves_changes_nothing() -> None:
    """16 pixels are twice the effective stride; "valid" sees less of one half than of the other."""
    points = position_leak.points(Settings(borders=("full", "valid")))
    found = {
        name: position_leak.measure(config, untrained(config)) for (name,), config in points.items()
    }
    similar, dissimilar = (
        {name: np.mean(of[part]) for name, of in found.items()} for part in PARTS
    )
    assert similar["full"] == dissimilar["full"]
    assert similar["valid"] != dissimilar["valid"]


def test_summary() -> None:
    """Only a loss of more than 50 points with valid and zero padding is expected."""
    results = outcomes(((b,) for b in BORDERS), *PARTS)
    (valid,) = [one for (name,), one in results.items() if name == "valid"]
    results["valid",] = Outcome(1, {**valid.values, PARTS[0]: np.array([0.98, 1.0])})
    summary = position_leak.STUDY.conclude(Settings(seeds=2), results, {})
    assert [one.verdict for one in summary.verdicts] == ["holds", "does not hold", "holds", "holds"]
    row = ["valid", "1.00 ± 1.41", "99.00 ± 1.41", "100.0", "1.00 ± 1.41", "0.2"]
    assert summary.tables[0].rows[0] == row
    check_figures(summary)


def test_the_published_recipe_unless_given_by_hand() -> None:
    config = position_leak.points(Settings(borders=("full",)))["full",]
    assert (config.optimizer, config.lr, config.weight_decay) == ("adadelta", 1, 5e-5)
    given = Settings(borders=("full",), lr=0.5, weight_decay=0.0)
    config = position_leak.points(given)["full",]
    assert (config.lr, config.weight_decay) == (0.5, 0)


def test_an_unknown_border() -> None:
    with pytest.raises(InputError, match="unknown border 'vald'"):
        position_leak.points(Settings(borders=("vald",)))
