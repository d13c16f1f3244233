"""The study of weight sharing that ends during training."""

from dataclasses import replace
from pathlib import Path

import pytest

from cnn.geometry import describe
from cnn.train.files import read_jsonl
from experiments import relax
from experiments.relax import Settings
from tests.conftest import Prepared
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    relax.STUDY.run(Settings(smoke=True, shares=(0.0, 0.5), out=tmp_path))
    out = tmp_path / "smoke"
    names = {"results.jsonl", "relax.png", "claims.png", "report.html", "summary.json"}
    assert names < {p.name for p in out.iterdir()}
    printed = " ".join(capsys.readouterr().out.split())
    assert all(claim.text in printed for claim in relax.CLAIMS)
    assert "of 2, it has the highest validation accuracy" in printed
    assert relax.HYPOTHESIS in printed


def test_points_are_freed_after_the_share_in_their_name() -> None:
    points = relax.points(Settings(steps=100, shares=(0.0, 0.3)))
    assert {when for kind, when in points if kind == "dense"} == {"0.0", "0.3", "from scratch"}
    assert points["local", "0.3"].relax_at == 30
    assert points["local", "0.0"].relax_at == 0
    assert points["local", "from scratch"].relax_at is None


def test_the_network_for_images() -> None:
    """Its maps have 16, 8 and 4 positions per side; weights and biases by hand."""
    found = describe(relax.network(full=True), (32, 32, 3))
    assert [layer.shape[0] for layer in found.layers if layer.params][:3] == [16, 8, 4]
    assert found.params == 27 * 4 + 4 + 36 * 8 + 8 + 72 * 16 + 16 + 256 * 10 + 10


@pytest.mark.slow
def test_on_real_images(tmp_path: Path, prepared: Prepared) -> None:
    settings = Settings(full=True, smoke=True, shares=(0.5,), data_dir=prepared("cifar10"))
    relax.STUDY.run(replace(settings, out=tmp_path))
    rows = read_jsonl(tmp_path / "full" / "smoke" / "results.jsonl")
    assert {row["freed to"] for row in rows} == {"conv", "local", "dense"}


def test_the_share_is_chosen_on_the_validation_part() -> None:
    """The i-th of the made-up points has i % on test data, and the others on validation data."""
    settings = Settings(steps=2000, seeds=2, shares=(0.0, 0.6))
    names = list(relax.points(settings))
    assert names[1:3] == [("local", "0.0"), ("local", "0.6")]
    summary = relax.STUDY.conclude(settings, outcomes(names), outcomes(names[::-1]))
    local, dense = summary.findings
    assert "at the best time, the network has 2.00 ± 1.41 %; local from scratch has 4.00" in local
    assert "the convolution that is never freed 1.00 ± 1.41 %." in dense
    assert any(note.startswith("local/best is local/0.0: of 2,") for note in summary.notes)
    rows = summary.tables[0].rows
    assert [row[0] for row in rows] == ["from scratch", "0", "1,200", "never"]
    assert rows[2] == ["1,200", "3.00 ± 1.41", "6.00 ± 1.41"]
    verdicts = {one.claim.text: one for one in summary.verdicts}
    assert len(verdicts) == 6
    lost = verdicts["freed to local, at most a point is lost"]
    assert (lost.verdict, lost.mean) == ("holds", pytest.approx(0.01))  # 2 % against 1 %
    scratch = verdicts["freed to dense, it ends above dense from scratch"]
    assert (scratch.verdict, scratch.mean) == ("does not hold", pytest.approx(-0.02))
    check_figures(summary)
