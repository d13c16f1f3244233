"""Accuracy against the number of examples, as a study."""

from pathlib import Path

import numpy as np
import pytest

from experiments import sample_efficiency
from experiments.sample_efficiency import Study


@pytest.mark.slow
def test_the_study_leaves_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_efficiency, "SHOWN", ("conv", "dense"))
    sample_efficiency.main(Study(smoke=True, sizes=(100,), out=tmp_path))
    out = tmp_path / "smoke"
    names = {
        "results.jsonl",
        "sample_efficiency.png",
        "sample_efficiency.svg",
        "report.html",
        "story.json",
    }
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "conv/100 − dense/100" in printed
    assert sample_efficiency.HYPOTHESIS in " ".join(printed.split())


def test_a_seed_has_one_subset_for_all_rungs_and_others_have_others() -> None:
    points = sample_efficiency.points(Study(sizes=(100,), seeds=2))
    conv, dense = points["conv", "100", "1"], points["dense", "100", "1"]
    assert (conv.seed, conv.seeds) == (dense.seed, dense.seeds) == (1, 1)
    assert conv.data is dense.data
    assert len(conv.data.train) == 100
    assert not np.array_equal(conv.data.train.x, points["conv", "100", "0"].data.train.x)


def test_a_curve_crosses_zero_halfway_in_log_size() -> None:
    """+1 at 100 and −1 at 10,000 meet at 1,000; one that keeps its sign nowhere."""
    assert sample_efficiency.roots([100, 10_000], [1.0, -1.0]) == [pytest.approx(1000)]
    assert sample_efficiency.roots([100, 10_000], [3.0, 1.0]) == []
    assert sample_efficiency.roots([1, 16, 64], [3.0, -1.0, -2.0]) == [pytest.approx(8)]
