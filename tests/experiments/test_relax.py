"""Training that is freed in the middle, as a study."""

from pathlib import Path

import pytest

from experiments import relax


@pytest.mark.slow
def test_the_study_leaves_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relax.main(relax.Study(smoke=True, shares=(0.0, 0.5), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "relax.png", "relax.svg", "report.html", "story.json"}
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "from scratch" in printed
    assert relax.HYPOTHESIS in " ".join(printed.split())


def test_points_are_freed_when_they_say() -> None:
    points = relax.points(relax.Study(steps=100, shares=(0.0, 0.3)))
    assert {when for kind, when in points if kind == "dense"} == {"0", "30", "from scratch"}
    assert points["local", "30"].relax_at == 30
    assert points["local", "from scratch"].relax_at is None
