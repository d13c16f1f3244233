"""Claims: what a study says before it runs, and whether its results support it.

A claim is a range for a difference between two points. Its interval has the level that Holm's
correction over all claims of the study gives. The verdict is where the interval lies: if wholly
inside the range, the claim holds; if wholly outside, it does not; else the results cannot tell.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from etils import epy

from cnn.errors import InputError
from experiments.harness.differences import Estimate, estimate
from experiments.harness.results import Name, Results
from experiments.harness.tables import Table

with epy.lazy_imports():
    from scipy import special

ALPHA = 0.05
"""Probability that the interval of any claim of a study misses its difference."""


@dataclass(frozen=True)
class Claim:
    """A range in which the difference a − b of a measure is expected to be."""

    text: str
    a: Name
    b: Name
    above: float = -math.inf
    """Lower end: 0.01 for "better by more than a point", -0.01 for "at most a point worse"."""
    below: float = math.inf
    """Upper end."""
    minus: tuple[Name, Name] | None = None
    """Two more points, c and d: the difference is (a − b) − (c − d)."""
    measure: str = "test_accuracy"
    of_b: str | None = None
    """The measure of b, and of d, if it is not `measure`. Then a and b may be the same point."""

    def __post_init__(self) -> None:
        for name, _ in self.terms:
            if not isinstance(name, tuple):
                raise InputError(
                    f"claim {self.text!r} must name its points as tuples, ('conv',), got {name!r}"
                )
        ends = [end for end in (self.above, self.below) if math.isfinite(end)]
        if self.in_points and any(abs(end) >= 1 for end in ends):
            raise InputError(
                f"claim {self.text!r} must have fractions as ends, 0.01 for a point of accuracy, "
                f"got {ends[0]}"
            )
        unbounded = self.above == -math.inf and self.below == math.inf
        if unbounded or not self.above < self.below:
            raise InputError(
                f"claim {self.text!r} must have a range: above < below, and one of them given, got "
                f"{self.above} and {self.below}"
            )

    @property
    def terms(self) -> list[tuple[Name, int]]:
        """The points, with their signs in the difference."""
        c_and_d = zip(self.minus or (), (-1, 1), strict=False)
        return [(self.a, 1), (self.b, -1), *c_and_d]

    @property
    def measures(self) -> list[str]:
        """The measure of each of the terms."""
        return [self.measure, self.of_b or self.measure] * (2 if self.minus else 1)

    @property
    def contrast(self) -> str:
        """The difference as text: "conv/ordered − local/ordered"."""
        pairs = [(self.a, self.b), *([self.minus] if self.minus else ())]
        which = [f" {name}" * bool(self.of_b) for name in self.measures]
        texts = [
            " − ".join("/".join(name) + of for name, of in zip(pair, which, strict=False))
            for pair in pairs
        ]
        return " − ".join(f"({text})" for text in texts) if self.minus else texts[0]

    @property
    def in_points(self) -> bool:
        """Whether the measure is a fraction, so that a hundredth of it is a point."""
        return self.measure.endswith("accuracy")


@dataclass(frozen=True)
class Verdict:
    """A claim, the interval of its difference, and what follows."""

    claim: Claim
    mean: float
    low: float
    high: float
    verdict: Literal["holds", "does not hold", "cannot tell"]
    advice: str = ""
    """For "cannot tell", what it would take."""
    examples: int = 0
    """Number of test examples that the interval covers; 0 if it covers only the seeds."""

    def __str__(self) -> str:
        return f"{self.verdict}: {self.claim.text}: {self.interval}"

    @property
    def interval(self) -> str:
        """The difference as text: "+5.0 points (+4.1 to +5.9)"."""
        if math.isnan(self.mean):
            return "no value"
        scale, digits, unit = (100, 1, " points") if self.claim.in_points else (1, 3, "")
        mean, low, high = (
            f"{scale * value:+.{digits}f}" for value in (self.mean, self.low, self.high)
        )
        return f"{mean}{unit}" + (f" ({low} to {high})" if math.isfinite(self.low) else "")


def judge(claims: Sequence[Claim], results: Results, alpha: float = ALPHA) -> list[Verdict]:
    """Return the verdict on each claim whose points are all in `results`.

    By Holm's procedure, the smallest p-value of m claims is held to alpha / m, the next one to
    alpha / (m − 1), and so on; after the first that fails, all fail. The p-value of a claim is that
    of the nearer end of its range. An interval has the level that its claim was held to, so that
    verdicts and intervals always agree.

    Reference:
        Holm, "A simple sequentially rejective multiple test procedure" (1979).
    """
    found = {
        claim: estimate(results, claim.terms, claim.measures)
        for claim in claims
        if all(name in results for name, _ in claim.terms)
    }
    p_values = {claim: one.p_value(_nearer_end(one, claim)) for claim, one in found.items()}
    levels: dict[Claim, float] = {}
    failed = None
    for i, claim in enumerate(sorted(found, key=lambda claim: p_values[claim])):
        levels[claim] = failed or alpha / (len(found) - i)
        if p_values[claim] >= levels[claim]:
            failed = levels[claim]
    return [_verdict(claim, one, levels[claim]) for claim, one in found.items()]


def _nearer_end(found: Estimate, claim: Claim) -> float:
    return min(claim.above, claim.below, key=lambda end: abs(end - found.mean))


def _verdict(claim: Claim, found: Estimate, level: float) -> Verdict:
    half = found.half(level)
    low, high = found.mean - half, found.mean + half
    verdict: Literal["holds", "does not hold", "cannot tell"] = "cannot tell"
    if claim.above < low and high < claim.below:
        verdict = "holds"
    elif high < claim.above or claim.below < low:
        verdict = "does not hold"
    advice = _advice(claim, found, level) if verdict == "cannot tell" else ""
    return Verdict(claim, found.mean, low, high, verdict, advice, found.examples)


def _advice(claim: Claim, found: Estimate, level: float) -> str:
    """Return about how many seeds, or test examples, would decide the claim at this difference."""
    if math.isnan(found.mean):
        return "a seed has no value"
    if not math.isfinite(found.error):
        return "an interval needs two seeds"
    distance = abs(_nearer_end(found, claim) - found.mean)
    allowed = (distance / float(special.ndtri(1 - level / 2))) ** 2
    left = allowed - found.of_examples
    if left > found.of_seeds * found.seeds / 1000:
        seeds = max(math.ceil(found.of_seeds * found.seeds / left), found.seeds + 1)
        return f"it would take about {seeds:,} seeds"
    if 0 < allowed < 2 * found.of_examples:
        examples = math.ceil(2 * found.of_examples * found.examples / allowed)
        return f"it would take about {examples:,} test examples, and more seeds"
    return "it would take more than 1,000 seeds"


def table(verdicts: Sequence[Verdict]) -> Table:
    """Return the verdicts as a table."""
    rows = [
        [one.claim.text, one.claim.contrast, _range(one.claim), one.interval, one.verdict]
        for one in verdicts
    ]
    heads = ["claim", "difference", "claimed", "measured", "verdict"]
    return Table(protocol(verdicts), heads, rows)


def expected(claims: Sequence[Claim]) -> Table:
    """Return what is claimed as a table, before anything is measured."""
    rows = [[claim.text, claim.contrast, _range(claim)] for claim in claims]
    return Table("What is claimed", ["claim", "difference", "claimed"], rows)


def protocol(verdicts: Sequence[Verdict]) -> str:
    """Return what the intervals of verdicts cover, as a sentence."""
    what = "the seeds and the test examples"
    if not all(one.examples for one in verdicts):
        some = any(one.examples for one in verdicts)
        what = "the seeds and, of accuracies, the test examples" if some else "the seeds"
    several = f", at {1 - ALPHA:.0%} for all {len(verdicts)} together (Holm)"
    return f"Intervals cover {what}{several if len(verdicts) > 1 else f', at {1 - ALPHA:.0%}'}"


def _range(claim: Claim) -> str:
    scale, unit = (100, " points") if claim.in_points else (1, "")
    above, below = f"{scale * claim.above:+g}", f"{scale * claim.below:+g}"
    if claim.below == math.inf:
        return f"above {above}{unit}"
    return f"below {below}{unit}" if claim.above == -math.inf else f"{above} to {below}{unit}"
