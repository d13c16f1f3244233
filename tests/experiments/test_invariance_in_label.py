"""A label that treats all positions alike, as a study."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from experiments import invariance_in_label
from experiments.harness.study import Name, Outcome
from experiments.invariance_in_label import Settings, norms
from tests.experiments.made import check_figures


@pytest.mark.slow
def test_study_writes_its_files(tmp_path: Path) -> None:
    invariance_in_label.STUDY.run(
        Settings(smoke=True, lengths=(4, 8), sizes=(32, 64), out=tmp_path)
    )
    figure = "invariance_in_label"
    names = {"results.jsonl", f"{figure}.png", f"{figure}.svg", "report.html", "summary.json"}
    assert names <= {p.name for p in (tmp_path / "smoke").glob("[!.]*")}


def test_label_is_the_larger_norm_and_fewer_examples_are_the_first_of_more() -> None:
    few, many = norms(5, 10, seed=1), norms(5, 30, seed=1)
    for x, y in zip(many.train.x, many.train.y, strict=True):
        assert y == (np.linalg.norm(x[:, 0]) > np.linalg.norm(x[:, 1]))
    np.testing.assert_array_equal(few.train.x, many.train.x[:10])
    np.testing.assert_array_equal(few.test.x, many.test.x)
    assert not np.isin(many.train.x, many.test.x).any()


def test_points_are_tuned_on_examples_of_their_own() -> None:
    """With 2 d² training examples, never those of the study, and test data of another seed."""
    given = Settings(lengths=(4,), sizes=(8, 512), seed=1000, seeds=2, validate=True)
    points = invariance_in_label.points_to_tune(given)
    assert {name[1:] for name in points} == {("8", "128", "1000"), ("8", "128", "1001")}
    config = points["dense", "8", "128", "1000"]
    assert not config.validate
    np.testing.assert_array_equal(config.data.test.x, norms(4, 1, 1000).test.x)
    assert invariance_in_label.STUDY.tuning is not None
    assert len(invariance_in_label.STUDY.tuning.groups(points)) == 3
    few = invariance_in_label.points(Settings(lengths=(4,), sizes=(8, 512), seeds=1))
    assert few["conv", "8", "8", "0"].batch_size == 8


def drawn(error_of: Callable[[str, int, int], float], given: Settings) -> dict[Name, Outcome]:
    """Return results of two seeds with these errors of rung, d and size."""
    values = {
        (rung, str(2 * length), str(size)): 1 - error_of(rung, 2 * length, size)
        for rung in invariance_in_label.RUNGS
        for length in given.lengths
        for size in given.sizes
    }
    return {
        name: Outcome(1, {"test_accuracy": np.full(2, v), "train_accuracy": np.full(2, 0.9)})
        for name, v in values.items()
    }


def test_summary() -> None:
    """An error of 0.5 below, and none from, 2 · d² examples on; the convolution needs few."""
    given = Settings(lengths=(4, 8), sizes=(64, 128, 256, 512), seeds=2)
    results = drawn(lambda rung, d, n: 0.5 * (rung != "conv" and n < 2 * d**2), given)
    summary = invariance_in_label.summarize(given, results)
    between = 2**-0.5  # 25 % is halfway from 50 to 0 %, between a size and its double
    assert summary.findings[0] == (
        "conv needs at most 64, at most 64 examples at d = 8, 16. With fewer than two numbers that "
        "are not bounds, it has no exponent."
    )
    assert summary.findings[2] == (
        f"dense needs {128 * between:,.0f}, {512 * between:,.0f} examples at d = 8, 16. That grows "
        "like d to the power 2.00 (95 % interval over the draws 2.00 to 2.00; from one d to the "
        "next 2.00)."
    )
    assert summary.findings[4] == (
        "Training accuracy at d = 16 with 512 examples: conv 90.0, local 90.0, dense 90.0 %."
    )
    assert summary.tables[0].rows[0] == ["conv", "at most 64", "at most 64"]
    assert summary.tables[1].rows[2] == ["dense", "50.00 ± 0.00", *["0.00 ± 0.00"] * 3]
    check_figures(summary)


def test_bounds_have_no_part_in_the_exponent() -> None:
    """At d = 32 the largest number is not enough."""
    given = Settings(lengths=(4, 8, 16), sizes=(64, 128, 256, 512), seeds=2)
    results = drawn(lambda rung, d, n: 0.5 * (n < 2 * d**2), given)
    summary = invariance_in_label.summarize(given, results)
    text = summary.findings[2]
    assert "more than 512 examples at d = 8, 16, 32. That grows, for d = 8, 16, like" in text
    check_figures(summary)


def test_summary_where_no_number_of_examples_is_enough() -> None:
    given = Settings(lengths=(4,), sizes=(64, 128), seeds=2)
    summary = invariance_in_label.summarize(given, drawn(lambda *_: 0.5, given))
    assert summary.findings[0].startswith("conv needs more than 128 examples at d = 8. With fewer")
    check_figures(summary)
