"""Verdicts are where intervals lie, and intervals are those of Holm's procedure."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy import stats

from cnn.errors import InputError
from experiments.harness.claims import Claim, judge, protocol, table
from experiments.harness.results import Examples, Name, Outcome, Results

X: Name = ("x",)
Y: Name = ("y",)


def results(**differences: list[float]) -> Results:
    """Return points that differ from the point `zero` by the given values of the seeds."""
    found = {(name,): Outcome(1, {"test_accuracy": np.array(d)}) for name, d in differences.items()}
    seeds = len(next(iter(differences.values())))
    return {**found, ("zero",): Outcome(1, {"test_accuracy": np.zeros(seeds)})}


def claim(name: str, above: float = -math.inf, below: float = math.inf) -> Claim:
    return Claim(f"{name} it is", (name,), ("zero",), above, below)


SEEDS = [0.02, 0.03, 0.04]  # mean 0.03, standard error 0.01 / √3
HALF = stats.t.ppf(0.975, 2) * 0.01 / math.sqrt(3)  # 0.0248


@pytest.mark.parametrize(
    ("above", "below", "verdict"),
    [
        (0.005, math.inf, "holds"),
        (0.006, math.inf, "cannot tell"),  # the interval begins at 0.0052
        (0.056, math.inf, "does not hold"),
        (-math.inf, 0.055, "holds"),
        (-math.inf, 0.05, "cannot tell"),
        (-math.inf, 0.005, "does not hold"),
        (0.0, 0.06, "holds"),
        (-0.01, 0.01, "cannot tell"),
        (-0.01, 0.005, "does not hold"),
        (0.01, 0.06, "cannot tell"),
    ],
)
def test_a_verdict_is_where_the_interval_lies(above: float, below: float, verdict: str) -> None:
    (found,) = judge([claim("a", above, below)], results(a=SEEDS))
    assert (found.mean, found.low, found.high) == pytest.approx((0.03, 0.03 - HALF, 0.03 + HALF))
    assert found.verdict == verdict
    assert bool(found.advice) == (verdict == "cannot tell")


def test_holms_levels_by_hand() -> None:
    """The p-values at 0 are 0.006, 0.03 and 0.21; 0.006 < 0.05 / 3, but 0.03 > 0.05 / 2."""
    spread = np.array([-0.01, 0.0, 0.0, 0.01])
    error = spread.std(ddof=1) / 2
    means = [error * t for t in (6.8, 3.9, 1.6)]
    p_values = [2 * stats.t.sf(t, 3) for t in (6.8, 3.9, 1.6)]
    assert p_values[0] < 0.05 / 3 < 0.05 / 2 < p_values[1] < 0.05
    values = {n: list(m + spread) for n, m in zip("abc", means, strict=True)}
    claims = [claim(name, above=0.0) for name in "cab"]
    found = {one.claim.a[0]: one for one in judge(claims, results(**values))}
    assert [found[name].verdict for name in "abc"] == ["holds", "cannot tell", "cannot tell"]
    for name, level in {"a": 0.05 / 3, "b": 0.05 / 2, "c": 0.05 / 2}.items():
        half = stats.t.ppf(1 - level / 2, 3) * error
        assert found[name].high - found[name].mean == pytest.approx(half), name
    alone = judge([claim("b", above=0.0)], results(**values))
    assert alone[0].verdict == "holds"  # without the others there is nothing to correct


def test_true_claims_are_rarely_called_false() -> None:
    """Five claims at the end of their range: one of 20 studies may decide any of them."""
    rng = np.random.default_rng(0)
    wrong = 0
    for _ in range(600):
        values = {name: list(0.01 + 0.02 * rng.standard_normal(6)) for name in "abcde"}
        verdicts = judge([claim(name, above=0.01) for name in values], results(**values))
        wrong += any(one.verdict != "cannot tell" for one in verdicts)
    assert wrong / 600 == pytest.approx(0.05, abs=0.025)


def test_claims_about_points_that_were_not_run_are_left_out() -> None:
    found = judge([claim("a", above=0.0), claim("b", above=0.0)], results(a=SEEDS))
    assert [one.claim.a for one in found] == [("a",)]
    assert found[0].high - found[0].mean == pytest.approx(HALF)


def test_one_seed_cannot_tell() -> None:
    (found,) = judge([claim("a", above=0.0)], results(a=[0.5]))
    assert (found.verdict, found.advice) == ("cannot tell", "an interval needs two seeds")
    assert found.interval == "+50.0 points"


def test_advice_is_about_enough() -> None:
    """With the standard deviation 1 and a distance of 0.5, 1.96 / √n = 0.5 needs 16 seeds."""
    values = [0.5 + d for d in (-1.0, 0.0, 1.0)]
    (found,) = judge([claim("a", above=0.0)], results(a=values))
    assert found.advice == "it would take about 16 seeds"
    (close,) = judge([claim("a", above=0.49)], results(a=values))
    assert close.advice == "it would take more than 1,000 seeds"


def test_a_difference_of_differences_and_of_two_measures() -> None:
    more = Claim("more", ("a",), ("b",), above=0.0, minus=(("c",), ("d",)))
    assert more.contrast == "(a − b) − (c − d)"
    values = results(a=[3.0, 3.1], b=[1.0, 1.0], c=[2.0, 2.0], d=[1.5, 1.6])
    (found,) = judge([more], values)
    assert found.mean == pytest.approx((2.05) - (0.45))


@pytest.mark.parametrize(("above", "below"), [(-math.inf, math.inf), (0.1, 0.1), (0.2, 0.1)])
def test_a_range_that_is_none_is_refused(above: float, below: float) -> None:
    with pytest.raises(InputError, match="claim 'a it is' must have a range: above < below"):
        claim("a", above, below)


def test_ends_in_points_and_names_as_texts_are_refused() -> None:
    with pytest.raises(
        InputError, match=r"fractions as ends, 0\.01 for a point of accuracy, got 1"
    ):
        claim("a", above=1)
    assert Claim("a", X, Y, above=2.0, measure="test_loss").above == 2.0  # no accuracy
    with pytest.raises(InputError, match=r"must name its points as tuples, \('conv',\), got '9'"):
        Claim("9 is better", "9", Y, above=0.01)  # type: ignore[arg-type]


def test_verdicts_as_text_and_as_a_table() -> None:
    verdicts = judge([claim("a", above=0.005), claim("b", below=0.5)], results(a=SEEDS, b=SEEDS))
    assert str(verdicts[0]).startswith("holds: a it is: +3.0 points (+0.5 to +5.5)")
    assert protocol(verdicts) == "Intervals cover the seeds, at 95% for all 2 together (Holm)"
    found = table(verdicts)
    assert found.rows[1][:3] == ["b it is", "b − zero", "below +50 points"]
    assert found.rows[0][2] == "above +0.5 points"
    assert table(judge([claim("a", -0.1, 0.1)], results(a=SEEDS))).rows[0][2:] == [
        "-10 to +10 points",
        "+3.0 points (+0.5 to +5.5)",
        "holds",
    ]


def test_a_difference_of_two_measures_by_hand() -> None:
    """Of X, x − y is 0.3 in both seeds; of Y it is 0.1. Means differ by 0.3 and by 0.3 − 0.1."""
    results = {
        X: Outcome(1, {"x": np.array([0.5, 0.7]), "y": np.array([0.2, 0.4])}),
        Y: Outcome(1, {"x": np.array([0.5, 0.1]), "y": np.array([0.4, 0.0])}),
    }
    alone = Claim("alone", X, X, above=0.2, measure="x", of_b="y")
    both = Claim("both", X, X, above=0.25, measure="x", of_b="y", minus=(Y, Y))
    first, second = judge([alone, both], results)
    assert (first.mean, first.verdict) == (pytest.approx(0.3), "holds")
    assert (second.mean, second.verdict) == (pytest.approx(0.2), "does not hold")
    assert alone.contrast == "x x − x y"
    assert both.contrast == "(x x − x y) − (y x − y y)"


def test_the_examples_are_those_of_each_measure() -> None:
    """An example that is always right on x and always wrong on y has no spread: only one has."""
    x, y = np.array([[1, 1, 0], [1, 1, 0]], bool), np.array([[0, 1, 0], [0, 1, 0]], bool)
    examples = {"x": Examples(x, 3), "y": Examples(y, 3)}
    outcome = Outcome(1, {name: one.correct.mean(1) for name, one in examples.items()}, examples)
    claim = Claim("x beats y", X, X, above=0, measure="x", of_b="y")
    (verdict,) = judge([claim], {X: outcome})
    assert verdict.examples == 3
    assert verdict.mean == pytest.approx(1 / 3)
    half = 4.302652729911275 * np.sqrt(np.var([1, 0, 0], ddof=1) / 3)  # t with 2 degrees of freedom
    assert verdict.high - verdict.mean == pytest.approx(half)


def test_a_seed_without_a_value_decides_nothing() -> None:
    values = {("a",): [0.5, np.nan, 0.6], ("b",): [0.1, 0.2, 0.15]}
    results = {n: Outcome(1, {"m": np.array(v)}) for n, v in values.items()}
    (verdict,) = judge([Claim("c", ("a",), ("b",), above=0.05, measure="m")], results)
    assert (verdict.verdict, verdict.advice) == ("cannot tell", "a seed has no value")
    assert verdict.interval == "no value"
