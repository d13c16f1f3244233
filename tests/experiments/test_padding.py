"""Borders, as a study."""

from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.train.run_dir import read_jsonl
from experiments import padding
from experiments.padding import PROBES, Study
from tests.conftest import Prepared
from tests.experiments.made import check_pictures, outcomes, untrained


@pytest.mark.slow
def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    padding.main(Study(smoke=True, borders=("zeros", "valid"), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "padding.png", "padding.svg", "report.html", "story.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    assert padding.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_what_the_border_tells_an_untrained_network() -> None:
    """A circular border tells nothing and moves along; zeros do neither."""
    points = padding.points(Study(borders=("zeros", "circular")))
    zeros, circular = (
        padding.measure(points[border, "mean"], untrained(points[border, "mean"]))
        for border in ("zeros", "circular")
    )
    assert circular["shift error"] == pytest.approx([0], abs=1e-5)
    assert circular["position leak"][0] < 0.01 < 0.05 < zeros["position leak"][0]
    assert zeros["shift error"][0] > 0.05


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    borders = ("zeros", "circular")
    folder = prepared("fashion_mnist")
    padding.main(Study(full=True, smoke=True, borders=borders, data_dir=folder, out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    circular = [row["shift error"] for row in rows if row["border"] == "circular"]
    assert circular == pytest.approx([0] * 4, abs=1e-4)
    assert min(row["shift error"] for row in rows if row["border"] == "zeros") > 0.01


def test_the_story() -> None:
    settings = Study(borders=("zeros", "full"))
    story = padding.tell(settings, outcomes(padding.points(settings), *PROBES))
    assert story.findings[1].endswith("head dense: zeros 0.03, full 0.04.")
    check_pictures(story)


def test_an_unknown_border() -> None:
    with pytest.raises(InputError, match="unknown border 'zero'"):
        padding.points(Study(borders=("zero",)))
