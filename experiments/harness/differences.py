"""Differences between points of a study, with intervals that cover seeds and test examples."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from etils import epy

from cnn.errors import InputError
from experiments.harness.results import Name, Results
from experiments.harness.tables import Table

with epy.lazy_imports():
    import numpy as np
    from scipy import special


class Estimate(NamedTuple):
    """A mean difference, and the parts of the variance of that mean."""

    mean: float
    seeds: int
    of_seeds: float
    """Variance that comes from the seeds; infinite with one seed."""
    examples: int = 0
    """Size of the test set; 0 if the measure is not a share of test examples."""
    of_examples: float = 0.0
    """Variance that comes from the choice of the test examples."""

    @property
    def error(self) -> float:
        """The standard error."""
        return math.sqrt(self.of_seeds + self.of_examples)

    @property
    def freedom(self) -> float:
        """Degrees of freedom of the error, by Satterthwaite's approximation."""
        total = self.of_seeds + self.of_examples
        if not 0 < total < math.inf:
            return 1.0
        of_seeds = self.of_seeds**2 / (self.seeds - 1)
        of_examples = self.of_examples**2 / (self.examples - 1) if self.examples > 1 else 0.0
        return total**2 / (of_seeds + of_examples)

    def half(self, alpha: float = 0.05) -> float:
        """Return half the width of the interval that misses the difference at the rate `alpha`."""
        if not math.isfinite(self.error):
            return math.inf
        return float(special.stdtrit(self.freedom, 1 - alpha / 2)) * self.error

    def p_value(self, value: float) -> float:
        """Return the two-sided p-value of the hypothesis that the difference is `value`."""
        distance = abs(self.mean - value)
        if not self.error or not math.isfinite(self.error):
            return float(bool(self.error) or not distance)
        return float(2 * special.stdtr(self.freedom, -distance / self.error))


def estimate(
    results: Results,
    terms: Sequence[tuple[Name, int]],
    measure: str | Sequence[str] = "test_accuracy",
) -> Estimate:
    """Return the sum of points with signs, (a, 1) and (b, -1) for a − b, and its variance.

    `measure` is that of all terms, or there is one for each of them.

    The seeds of the points are paired, and so are their test examples. Let d be the difference of
    one seed and one example, S the number of seeds and E that of examples. In a two-way random-
    effects model, the variance of the mean is estimated by var(d by seed) / S, which includes the
    interaction of both, plus (var(d by example) − r / S) / E, where r is the mean square of the
    residuals.

    Raises:
        InputError: If the points differ in their numbers of seeds or of test examples.
    """
    measures = [measure] * len(terms) if isinstance(measure, str) else measure
    outcomes = [(results[name], of) for (name, _), of in zip(terms, measures, strict=True)]
    of_seeds = [outcome[of] for outcome, of in outcomes]
    _check_equal("seeds", terms, [len(values) for values in of_seeds])
    signs = np.array([sign for _, sign in terms])
    by_seed = np.tensordot(signs, np.stack(of_seeds), 1)
    seeds, mean = len(by_seed), float(by_seed.mean())
    if seeds < 2:
        return Estimate(mean, seeds, math.inf)
    variance = float(by_seed.var(ddof=1)) / seeds
    examples = [outcome.examples[of] for outcome, of in outcomes if of in outcome.examples]
    if len(examples) < len(outcomes):
        return Estimate(mean, seeds, variance)
    _check_equal("test examples", terms, [one.of for one in examples])
    d = np.tensordot(signs, np.stack([one.correct for one in examples]).astype(float), 1)
    by_example = d.mean(0)
    residuals = d - by_example - d.mean(1, keepdims=True) + d.mean()
    r = np.square(residuals).sum() / ((seeds - 1) * max(len(by_example) - 1, 1))
    of_examples = max(0.0, float(by_example.var(ddof=1) - r / seeds)) / examples[0].of
    return Estimate(mean, seeds, variance, examples[0].of, of_examples)


def _check_equal(what: str, terms: Sequence[tuple[Name, int]], numbers: Sequence[int]) -> None:
    if len(set(numbers)) > 1:
        found = ", ".join(
            f"{'/'.join(name)} {number}" for (name, _), number in zip(terms, numbers, strict=True)
        )
        raise InputError(f"compared points must have equally many {what}, got {found}")


def paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the mean of a − b over seeds, and half the width of its 95 % confidence interval.

    The interval is Student's t of the differences: what both have in common per seed cancels. It
    covers the seeds only. With one seed it is infinite.
    """
    difference = np.asarray(a) - np.asarray(b)
    n = len(difference)
    variance = float(difference.var(ddof=1)) / n if n > 1 else math.inf
    return float(difference.mean()), Estimate(0.0, n, variance).half()


def difference(a: np.ndarray, b: np.ndarray, brief: bool = False) -> str:
    """Return a − b of fractions, the mean over seeds, as text with its interval (see `paired`).

    "+1.2 points (95 % interval -0.3 to +2.7)", or "+1.2 (-0.3 to +2.7)" if `brief`. The interval is
    left out if there is one seed.
    """
    mean, half = paired(100 * a, 100 * b)
    unit, kind = ("", "") if brief else (" points", "95 % interval ")
    interval = f" ({kind}{mean - half:+.1f} to {mean + half:+.1f})" if math.isfinite(half) else ""
    return f"{mean:+.1f}{unit}{interval}"


def differences(
    results: Results, pairs: Iterable[tuple[Name, Name]], measure: str = "test_accuracy"
) -> Table:
    """Return the differences a − b, in points of a fraction, of all pairs in `results`.

    The intervals are not corrected for their number: claims are (`experiments.harness.claims`).
    """
    rows, found = [], None
    for a, b in pairs:
        if a in results and b in results:
            found = estimate(results, [(a, 1), (b, -1)], measure)
            mean, half = 100 * found.mean, 100 * found.half()
            interval = f"{mean - half:+.2f} to {mean + half:+.2f}" if math.isfinite(half) else "–"
            rows.append([f"{'/'.join(a)} − {'/'.join(b)}", f"{mean:+.2f}", interval])
    caption = f"Differences in {measure.replace('_', ' ')}, each interval by itself"
    if found is not None:
        examples = f" and {found.examples:,} test examples" if found.examples else ""
        caption += f" ({found.seeds} seeds{examples})"
    return Table(caption, ["difference", "points", "95 % interval"], rows)
