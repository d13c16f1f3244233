"""A label that treats all positions alike, as a study."""

from pathlib import Path

import numpy as np
import pytest

from experiments import invariance_in_label
from experiments.harness.study import Outcome
from experiments.invariance_in_label import Settings, exponent, needed, norms
from tests.experiments.made import check_figures


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path) -> None:
    invariance_in_label.STUDY.run(
        Settings(smoke=True, lengths=(4, 8), sizes=(32, 64), out=tmp_path)
    )
    figure = "invariance_in_label"
    names = {"results.jsonl", f"{figure}.png", f"{figure}.svg", "report.html", "summary.json"}
    assert {p.name for p in (tmp_path / "smoke").glob("[!.]*")} == names


def test_label_is_the_larger_norm_and_fewer_examples_are_the_first_of_more() -> None:
    few, many = norms(5, 10, seed=1), norms(5, 30, seed=1)
    for x, y in zip(many.train.x, many.train.y, strict=True):
        assert y == (np.linalg.norm(x[:, 0]) > np.linalg.norm(x[:, 1]))
    np.testing.assert_array_equal(few.train.x, many.train.x[:10])
    np.testing.assert_array_equal(few.test.x, many.test.x)
    assert not np.isin(many.train.x, many.test.x).any()


def test_needed_examples_by_hand() -> None:
    """Halfway from 35 to 15 % is 25 %: the geometric middle of 100 and 10,000."""
    sizes = (100, 10_000, 20_000)
    assert needed(sizes, np.array([0.35, 0.15, 0.1])) == pytest.approx(1000)
    assert needed(sizes, np.array([0.2, 0.3, 0.2])) == pytest.approx(20_000 / 2**0.5)
    assert needed(sizes, np.array([0.2, 0.1, 0.1])) == 100
    assert needed(sizes, np.array([0.2, 0.1, 0.3])) == np.inf


def test_exponent_of_a_power_law() -> None:
    sides = np.array([8, 16, 32])
    slope, half = exponent([8, 16, 32], np.array([3.0 * sides**2, 5.0 * sides**2]))
    assert (slope, half) == (pytest.approx(2), pytest.approx(0, abs=1e-9))


def test_summary() -> None:
    """An error of 0.5 below, and none from, 2 · d² examples on, whatever the seed."""
    given = Settings(lengths=(4, 8), sizes=(64, 128, 256, 512), seeds=2)
    results = {
        (rung, str(d), str(size), str(seed)): Outcome(
            1, {"test_accuracy": np.array([1.0 if rung == "conv" or size >= 2 * d**2 else 0.5])}
        )
        for rung in invariance_in_label.RUNGS
        for d in (8, 16)
        for size in given.sizes
        for seed in (0, 1)
    }
    summary = invariance_in_label.summarize(given, results)
    between = 2**-0.5  # 25 % is halfway from 50 to 0 %, between a size and its double
    ratio = 512 * between / 64
    assert summary.findings[0] == (
        f"Without sharing, the label takes {ratio:.1f} times as many examples (local), also "
        f"without locality {ratio:.1f} times (dense), at d = 16."
    )
    assert summary.findings[1].startswith(
        "conv needs 64, 64 examples at d = 8, 16, which grows like d to the power 0.00"
    )
    assert summary.findings[3] == (
        f"dense needs {128 * between:,.0f}, {512 * between:,.0f} examples at d = 8, 16, which "
        "grows like d to the power 2.00 (95 % interval ± 0.00)."
    )
    assert summary.tables[0].rows[2] == ["dense", "50.00 ± 0.00", *["0.00 ± 0.00"] * 3]
    check_figures(summary)


def test_summary_where_no_number_of_examples_is_enough() -> None:
    given = Settings(lengths=(4,), sizes=(64, 128), seeds=1)
    results = {
        (rung, "8", str(size), "0"): Outcome(1, {"test_accuracy": np.array([0.5])})
        for rung in invariance_in_label.RUNGS
        for size in given.sizes
    }
    summary = invariance_in_label.summarize(given, results)
    assert summary.findings[0] == "conv needs more than 128 examples at d = 8."
    check_figures(summary)
