"""The study of weight sharing that ends during training."""

from pathlib import Path

import pytest

from experiments import relax
from experiments.relax import Settings
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relax.STUDY.run(Settings(smoke=True, shares=(0.0, 0.5), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "relax.png", "relax.svg", "report.html", "summary.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "from scratch" in printed
    assert relax.HYPOTHESIS in " ".join(printed.split())


def test_points_are_freed_at_the_step_in_their_name() -> None:
    points = relax.points(Settings(steps=100, shares=(0.0, 0.3)))
    assert {when for kind, when in points if kind == "dense"} == {"0", "30", "from scratch"}
    assert points["local", "30"].relax_at == 30
    assert points["local", "from scratch"].relax_at is None


def test_summary() -> None:
    """Of two made-up seeds, the i-th point has i % and i + 2 %."""
    settings = Settings(steps=2000, seeds=2, shares=(0.0, 0.6))
    summary = relax.summarize(settings, outcomes(relax.points(settings)))
    local, dense = summary.findings
    assert "freed at step 1,200 of 2,000: 3.0 %" in local  # the third of the points, 2 % and 4 %
    assert "never freed is +2.0 points (95 % interval +2.0 to +2.0); to local from" in local
    assert "to dense from scratch it is -1.0 points (95 % interval -1.0 to -1.0)" in dense
    assert [row[0] for row in summary.tables[0].rows] == ["from scratch", "0", "1200", "never"]
    check_figures(summary)
