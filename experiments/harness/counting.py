"""How many examples it takes to reach an error, and how that number grows."""

from __future__ import annotations

from collections.abc import Sequence

from etils import epy

from cnn.errors import InputError
from experiments.harness.differences import paired

with epy.lazy_imports():
    import numpy as np

ERROR = 0.25
"""The test error at which examples are counted."""


def check_counts(**counts: Sequence[int]) -> None:
    """Raise `InputError` for a setting of a study that has no numbers, or one below 1."""
    for name, values in counts.items():
        if not values or min(values) < 1:
            raise InputError(f"{name} must be whole numbers from 1 on, got {tuple(values)}")


def needed(sizes: Sequence[int], curve: np.ndarray) -> float:
    """Return the number of examples from which on the error is at most `ERROR`.

    Between two sizes the error is linear in the logarithm of their number. Return the smallest size
    if the error is never above `ERROR`, and infinity if it is at the largest size.
    """
    above = np.flatnonzero(curve > ERROR)
    if len(above) == 0:
        return float(sizes[0])
    i = int(above[-1])
    if i + 1 == len(sizes):
        return float("inf")
    share = (curve[i] - ERROR) / (curve[i] - curve[i + 1])
    return float(sizes[i] * (sizes[i + 1] / sizes[i]) ** share)


def number(counts: np.ndarray, sizes: Sequence[int]) -> str:
    """Return the geometric mean of numbers of examples as text; that of bounds is a bound."""
    low, high = (counts <= sizes[0]).any(), np.isinf(counts).any()
    if low and high:
        return "unknown"
    mean = np.exp(np.log(np.minimum(counts, sizes[-1])).mean())
    return f"{'at most ' * bool(low)}{'more than ' * bool(high)}{mean:,.0f}"


def is_known(counts: np.ndarray, sizes: Sequence[int]) -> np.ndarray:
    """Return for which x the number of examples, `(seeds, x)`, is a bound for no seed."""
    return np.asarray(((counts > sizes[0]) & np.isfinite(counts)).all(0))


def slopes(xs: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Return the slopes of log examples, `(seeds, x)`, against log x, from each x to the next."""
    return np.asarray(np.diff(np.log(counts).mean(0)) / np.diff(np.log(xs)))


def powers(xs: Sequence[int], counts: np.ndarray) -> np.ndarray:
    """Return for every seed the slope of the least-squares line of log counts against log x.

    Args:
        xs: Values of x.
        counts: Positive numbers, `(seeds, x)`.

    Returns:
        Slopes `(seeds,)`.
    """
    return np.asarray(np.polyfit(np.log(xs), np.log(counts).T, 1)[0])


def finding(rung: str, by: str, xs: Sequence[int], counts: np.ndarray, sizes: Sequence[int]) -> str:
    """Return how many examples a rung needs, and how that grows where it is not a bound.

    The power is the slope of a least-squares line per seed, with a 95 % interval of Student's t
    over the seeds. A curve that is not a line shows in the slopes from one value to the next, of
    the geometric means.

    Args:
        rung: Name of the network.
        by: Name of what grows.
        xs: Its values.
        counts: Numbers of examples, `(seeds, values)`.
        sizes: Numbers of examples that were tried.
    """
    listed = ", ".join(number(of, sizes) for of in counts.T)
    text = f"{rung} needs {listed} examples at {by} = {', '.join(map(str, xs))}"
    known = is_known(counts, sizes)
    if known.sum() < 2:
        return f"{text}. With fewer than two numbers that are not bounds, it has no exponent."
    x, counts = np.array(xs)[known], counts[:, known]
    slope, half = paired(powers(x.tolist(), counts), np.zeros(len(counts)))
    where = "" if known.all() else f", for {by} = {', '.join(map(str, x))},"
    between = ", ".join(f"{each:.2f}" for each in slopes(x.tolist(), counts))
    return (
        f"{text}. That grows{where} like {by} to the power {slope:.2f} (95 % interval over the "
        f"draws {slope - half:.2f} to {slope + half:.2f}; from one {by} to the next {between})."
    )
