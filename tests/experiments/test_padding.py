"""The study of padding."""

from pathlib import Path

import pytest

from cnn.errors import InputError
from cnn.train.files import read_jsonl
from experiments import padding
from experiments.padding import PROBES, Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes, untrained


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    padding.STUDY.run(Settings(smoke=True, borders=("zeros", "valid"), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "padding.png", "padding.svg", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    assert padding.HYPOTHESIS in " ".join(capsys.readouterr().out.split())


def test_padding_of_an_untrained_network() -> None:
    """Circular padding reveals no position and is equivariant to shifts; zeros are neither."""
    points = padding.points(Settings(borders=("zeros", "circular")))
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
    padding.STUDY.run(
        Settings(full=True, smoke=True, borders=borders, data_dir=folder, out=tmp_path)
    )
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    circular = [row["shift error"] for row in rows if row["border"] == "circular"]
    assert circular == pytest.approx([0] * 4, abs=1e-4)
    assert min(row["shift error"] for row in rows if row["border"] == "zeros") > 0.01


def test_summary() -> None:
    settings = Settings(borders=("zeros", "full"))
    summary = padding.summarize(settings, outcomes(padding.points(settings), *PROBES))
    assert summary.findings[0].endswith("head dense: zeros 0.03, full 0.04.")
    assert summary.findings[1].endswith("head dense: full +1.0 (+1.0 to +1.0).")
    check_figures(summary)


def test_an_unknown_border() -> None:
    with pytest.raises(InputError, match="unknown border 'zero'"):
        padding.points(Settings(borders=("zero",)))
