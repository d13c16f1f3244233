"""Accuracy against the number of examples, as a study."""

from pathlib import Path

import numpy as np
import pytest

from experiments import sample_efficiency
from experiments.sample_efficiency import Settings
from tests.experiments.made import check_figures, outcomes


@pytest.mark.slow
def test_the_study_writes_its_files(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sample_efficiency, "SHOWN", ("conv", "dense"))
    sample_efficiency.STUDY.run(Settings(smoke=True, sizes=(100,), out=tmp_path))
    out = tmp_path / "smoke"
    names = {
        "results.jsonl",
        "sample_efficiency.png",
        "sample_efficiency.svg",
        "report.html",
        "summary.json",
    }
    assert {p.name for p in out.glob("[!.]*")} == names
    printed = capsys.readouterr().out
    assert "conv/100 − dense/100" in printed
    assert sample_efficiency.HYPOTHESIS in " ".join(printed.split())


def test_a_seed_has_one_subset_for_all_rungs_and_others_have_others() -> None:
    points = sample_efficiency.points(Settings(sizes=(100,), seeds=2))
    conv, dense = points["conv", "100", "1"], points["dense", "100", "1"]
    assert (conv.seed, conv.seeds) == (dense.seed, dense.seeds) == (1, 1)
    assert conv.data is dense.data
    assert len(conv.data.train) == 100
    assert not np.array_equal(conv.data.train.x, points["conv", "100", "0"].data.train.x)


def test_sign_changes_are_linear_in_log_size() -> None:
    """+1 at 100 and −1 at 10,000 meet at 1,000. A value of exactly zero counts once."""
    changes = sample_efficiency.sign_changes
    assert changes([100, 10_000], [1.0, -1.0]) == [pytest.approx(1000)]
    assert changes([100, 10_000], [3.0, 1.0]) == []
    assert changes([1, 16, 64], [3.0, -1.0, -2.0]) == [pytest.approx(8)]
    assert changes([1, 16, 64], [-1.0, 0.0, 1.0]) == [pytest.approx(16)]


@pytest.mark.parametrize(
    ("level", "needed"), [(0.1, "at most 100"), (0.3, "about 1,000"), (0.5, "more than 10,000")]
)
def test_examples_that_conv_needs(level: float, needed: str) -> None:
    """conv has 20 % with 100 examples and 40 % with 10,000."""
    conv, local = ([np.array([v]) for v in values] for values in ((0.2, 0.4), (0.1, level)))
    text = sample_efficiency.needed_by_conv([100, 10_000], {"conv": conv, "local": local}, "local")
    assert text.endswith(f"({100 * level:.1f} %), conv needs {needed}.")


def test_summary() -> None:
    settings = Settings(sizes=(4000, 125), seeds=2)
    summary = sample_efficiency.summarize(settings, outcomes(sample_efficiency.points(settings)))
    assert summary.tables[0].heads == ["rung", "125", "4,000"]
    assert "none" in summary.findings[1]  # made-up curves are parallel
    check_figures(summary)
