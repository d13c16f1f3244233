"""Claims about two measures of the same point."""

import numpy as np
import pytest

from experiments.harness.claims import Claim, judge
from experiments.harness.results import Examples, Name, Outcome

A: Name = ("a",)
B: Name = ("b",)


def test_a_difference_of_two_measures_by_hand() -> None:
    """Of a, x − y is 0.3 in both seeds; of b it is 0.1. Means differ by 0.3 and by 0.3 − 0.1."""
    results = {
        A: Outcome(1, {"x": np.array([0.5, 0.7]), "y": np.array([0.2, 0.4])}),
        B: Outcome(1, {"x": np.array([0.5, 0.1]), "y": np.array([0.4, 0.0])}),
    }
    alone = Claim("alone", A, A, above=0.2, measure="x", of_b="y")
    both = Claim("both", A, A, above=0.25, measure="x", of_b="y", minus=(B, B))
    first, second = judge([alone, both], results)
    assert (first.mean, first.verdict) == (pytest.approx(0.3), "holds")
    assert (second.mean, second.verdict) == (pytest.approx(0.2), "does not hold")
    assert alone.contrast == "a x − a y"
    assert both.contrast == "(a x − a y) − (b x − b y)"


def test_the_examples_are_those_of_each_measure() -> None:
    """An example that is always right on x and always wrong on y has no spread: only one has."""
    x, y = np.array([[1, 1, 0], [1, 1, 0]], bool), np.array([[0, 1, 0], [0, 1, 0]], bool)
    examples = {"x": Examples(x, 3), "y": Examples(y, 3)}
    outcome = Outcome(1, {name: one.correct.mean(1) for name, one in examples.items()}, examples)
    claim = Claim("x beats y", A, A, above=0, measure="x", of_b="y")
    (verdict,) = judge([claim], {A: outcome})
    assert verdict.examples == 3
    assert verdict.mean == pytest.approx(1 / 3)
    half = 4.302652729911275 * np.sqrt(np.var([1, 0, 0], ddof=1) / 3)  # t with 2 degrees of freedom
    assert verdict.high - verdict.mean == pytest.approx(half)
