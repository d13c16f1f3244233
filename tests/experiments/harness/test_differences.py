"""Intervals of differences: against Student's t, by hand, and how often they cover."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cnn.errors import InputError
from experiments.harness.differences import difference, differences, estimate, paired
from experiments.harness.results import Examples, Outcome

A, B = ("a",), ("b",)
A_MINUS_B = [(A, 1), (B, -1)]


def outcome(correct: np.ndarray, of: int | None = None) -> Outcome:
    """Return a point of which the rows of `correct` are seeds and the columns test examples."""
    examples = {"test_accuracy": Examples(correct.astype(bool), of or correct.shape[1])}
    return Outcome(1, {"test_accuracy": correct.mean(1)}, examples)


def test_without_examples_it_is_a_paired_t_test() -> None:
    a, b = np.array([0.9, 0.8, 0.95, 0.7]), np.array([0.85, 0.7, 0.97, 0.6])
    results = {name: Outcome(1, {"loss": values}) for name, values in ((A, a), (B, b))}
    found = estimate(results, A_MINUS_B, "loss")
    expected = stats.ttest_rel(a, b)
    interval = expected.confidence_interval(0.9)
    assert found.mean + found.half(0.1) == pytest.approx(interval.high)
    assert found.p_value(0.0) == pytest.approx(expected.pvalue)
    assert found.p_value(found.mean) == 1.0
    assert found.examples == 0


def test_the_variance_by_hand() -> None:
    """Two seeds, four examples: d has the rows (1, 0, 0, 0) and (1, 1, 1, 0).

    By seed 1/4 and 3/4: their variance 1/8 over 2 seeds is 1/16. By example 1, 1/2, 1/2, 0, with
    variance 1/6. The residuals are ±1/4 everywhere, so r = 8/16 / 3 = 1/6, and the examples add
    (1/6 − 1/12) / 4 = 1/48.
    """
    results = {
        A: outcome(np.array([[1, 0, 0, 0], [1, 1, 1, 0]])),
        B: outcome(np.zeros((2, 4))),
    }
    found = estimate(results, A_MINUS_B)
    assert found.mean == 0.5
    assert found.of_seeds == pytest.approx(1 / 16)
    assert found.of_examples == pytest.approx(1 / 48)
    freedom = (1 / 16 + 1 / 48) ** 2 / ((1 / 16) ** 2 / 1 + (1 / 48) ** 2 / 3)
    assert found.freedom == pytest.approx(freedom)
    half = stats.t.ppf(0.975, freedom) * math.sqrt(1 / 16 + 1 / 48)
    assert found.half() == pytest.approx(half)


def test_a_sample_of_examples_stands_for_the_whole_set() -> None:
    rng = np.random.default_rng(0)
    correct = rng.random((3, 100)) < rng.choice([0.1, 0.9], 100)  # hard and easy examples
    whole, sample = (
        estimate({A: outcome(correct, of), B: outcome(np.zeros((3, 100)), of)}, A_MINUS_B)
        for of in (100, 5000)
    )
    assert sample.of_examples == pytest.approx(whole.of_examples / 50)
    assert whole.of_examples > 0
    assert sample.examples == 5000


def test_a_difference_of_differences() -> None:
    values = {(name,): np.array(of) for name, of in zip("abcd", np.eye(4), strict=True)}
    results = {name: Outcome(1, {"x": of}) for name, of in values.items()}
    terms = [((name,), sign) for name, sign in zip("abcd", (1, -1, -1, 1), strict=True)]
    found = estimate(results, terms, "x")
    by_seed = np.array([1, -1, -1, 1])
    assert found.mean == 0
    assert found.of_seeds == pytest.approx(by_seed.var(ddof=1) / 4)


@pytest.mark.parametrize(("seeds", "examples"), [(5, 300), (10, 100)])
def test_intervals_cover_as_often_as_they_say(seeds: int, examples: int) -> None:
    """Random effects of seeds, of examples and of both, drawn 1,000 times: 95 % cover the truth.

    Intervals of the seeds alone miss more often. The standard error of a rate of 95 % is 0.7 %.
    """
    rng = np.random.default_rng(1)
    covered = {"both": 0, "seeds": 0}
    trials = 1000
    for _ in range(trials):
        latent = [
            0.3 * rng.standard_normal((seeds, 1))
            + 1.5 * rng.standard_normal(examples)
            + rng.standard_normal((seeds, examples))
            for _ in range(2)
        ]
        # Without a true difference: a and b have the same distribution.
        a, b = (outcome(values > 0) for values in latent)
        found = estimate({A: a, B: b}, A_MINUS_B)
        covered["both"] += abs(found.mean) < found.half()
        covered["seeds"] += abs(found.mean) < paired(a["test_accuracy"], b["test_accuracy"])[1]
    assert covered["both"] / trials == pytest.approx(0.95, abs=0.02)
    assert covered["seeds"] < covered["both"] - 20


def test_one_seed_has_no_interval() -> None:
    found = estimate({A: outcome(np.ones((1, 4))), B: outcome(np.zeros((1, 4)))}, A_MINUS_B)
    assert found.mean == 1.0
    assert found.half() == math.inf
    assert found.p_value(0.0) == 1.0


def test_equal_points_differ_by_nothing() -> None:
    one = outcome(np.array([[1, 0], [1, 1]]))
    found = estimate({A: one, B: one}, A_MINUS_B)
    assert (found.mean, found.half()) == (0.0, 0.0)
    assert (found.p_value(0.0), found.p_value(0.01)) == (1.0, 0.0)


@pytest.mark.parametrize(
    ("other", "message"),
    [
        (np.ones((3, 4)), "equally many seeds, got a 2, b 3"),
        (np.ones((2, 5)), "equally many test examples, got a 4, b 5"),
    ],
    ids=["seeds", "examples"],
)
def test_what_cannot_be_paired_is_refused(other: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        estimate({A: outcome(np.ones((2, 4))), B: outcome(other)}, A_MINUS_B)


def test_a_table_of_differences() -> None:
    rng = np.random.default_rng(0)
    a, b = (outcome(rng.random((4, 50)) < p) for p in (0.9, 0.5))
    table = differences({A: a, B: b}, [(A, B), (A, ("c",))])
    found = estimate({A: a, B: b}, A_MINUS_B)
    mean, half = 100 * found.mean, 100 * found.half()
    assert table.rows == [["a − b", f"{mean:+.2f}", f"{mean - half:+.2f} to {mean + half:+.2f}"]]
    assert table.caption.endswith("each interval by itself (4 seeds and 50 test examples)")


def test_paired_differences_as_text() -> None:
    a, b = np.array([0.9, 0.8, 0.95, 0.7]), np.array([0.85, 0.7, 0.97, 0.6])
    interval = stats.ttest_rel(a, b).confidence_interval()
    text = f"+5.8 points (95 % interval {100 * interval.low:+.1f} to {100 * interval.high:+.1f})"
    assert difference(a, b) == text
    assert difference(a[:1], b[:1]) == "+5.0 points"
