"""What a study shows by default: its points, their differences to the first one, and a figure.

Everything comes from the points and what they measured. The differences are of one measure: the
accuracy, else the first metric, else the loss, else the first of the study's own measures.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from etils import epy

from experiments.harness import plots
from experiments.harness.differences import paired
from experiments.harness.results import Name, Outcome, Points, Results
from experiments.harness.summary import Summary
from experiments.harness.tables import Table

with epy.lazy_imports():
    import numpy as np

if TYPE_CHECKING:
    from cnn.train import Config

COLORS = (plots.BLUE, plots.ORANGE, plots.GREEN, plots.PINK, plots.BLACK, plots.AMBER, plots.SKY)
MARKERS = ("o", "^", "s", "D", "v", "P")
TITLES = {
    "mnist1d": "MNIST-1D",
    "mnist1d-50k": "MNIST-1D (50,000 new test signals)",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "cifar10": "CIFAR-10",
}


def summarize(labels: Sequence[str], points: Points, results: Results) -> Summary:
    """Return the table of the points, the differences of all to the first, and a figure."""
    tables = [table(labels, points, results)]
    measure = _compared(points, results)
    if measure is None:
        nothing = "The points have no measure in common, so nothing is compared."
        return Summary([nothing], tables, {})
    first, *others = results
    title = _title(measure, _part(points.values()))
    findings, rows = [], []
    for name in others:
        a, b = results[name][measure], results[first][measure]
        texts = _said(name, labels), _said(first, labels)
        findings.append(_finding(*texts, a, b, measure, title))
        if len(a) == len(b):
            mean, half = paired(_scaled(a, measure), _scaled(b, measure))
            interval = _interval(mean, half, measure) or "–"
            rows.append([" − ".join(texts), _signed(mean, measure), interval])
    if rows:
        unit = "points" if _is_fraction(measure) else title
        by_itself = "; each interval by itself" if len(rows) > 1 else ""
        caption = f"Differences in {title}, paired by seed{by_itself}"
        tables.append(Table(caption, ["difference", unit, "95 % interval"], rows))
    return Summary(findings, tables, {"points": _figure(labels, results, measure, title)})


def table(labels: Sequence[str], points: Points, results: Results) -> Table:
    """Return a row for each point in `results`: name, parameters, and each measure of one number.

    Measures of the training set are left out.
    """
    chosen = [points[name] for name in results]
    measures = _numbers(results.values())
    rows = [
        [*name, one.parameters, *(_cell(one.values.get(key), key) for key in measures)]
        for name, one in results.items()
    ]
    heads = [_title(key, _part(chosen)) + ", %" * _is_fraction(key) for key in measures]
    return Table(_caption(chosen), [*labels, "parameters", *heads], rows)


def _numbers(outcomes: Iterable[Outcome]) -> list[str]:
    """Return the names of the measures that are one number per seed, without the training set's."""
    found: dict[str, None] = {}
    for one in outcomes:
        found |= {k: None for k, v in one.values.items() if v.ndim == 1 and not _is_training(k)}
    return sorted(found, key=lambda name: name == "test_loss")  # what is the point comes first


def _compared(points: Points, results: Results) -> str | None:
    """Return the measure by which points are compared, None if they have none in common."""
    shared = [k for k in _numbers(results.values()) if all(k in o.values for o in results.values())]
    if len({(points[name].loss, points[name].label_smoothing) for name in results}) > 1:
        shared = [name for name in shared if name != "test_loss"]
    ranks = ("test_accuracy", *(k for k in shared if k.startswith("test_")), *shared)
    return next((name for name in ranks if name in shared), None)


def _finding(a: str, b: str, of_a: np.ndarray, of_b: np.ndarray, measure: str, title: str) -> str:
    """Return in a sentence whether `a` measured more than `b`, or that one cannot tell."""
    if len(of_a) != len(of_b):
        return f"Cannot compare {a} with {b}: {len(of_a)} and {len(of_b)} seeds."
    mean, half = paired(_scaled(of_a, measure), _scaled(of_b, measure))
    interval = _interval(mean, half, measure)
    unit = " points" if _is_fraction(measure) else ""
    size = f"{_signed(mean, measure)}{unit}{interval and f' (95 % interval {interval})'}"
    if abs(mean) > half:
        more = "higher" if mean > 0 else "lower"
        return f"{a[:1].upper()}{a[1:]} has a {more} {title} than {b}: {size}."
    seeds = "one seed" if len(of_a) == 1 else f"{len(of_a)} seeds"
    return (
        f"Cannot tell from {seeds} whether {a} or {b} has the higher {title}: "
        f"the difference is {size}."
    )


def _interval(mean: float, half: float, measure: str) -> str:
    low, high = _signed(mean - half, measure), _signed(mean + half, measure)
    return f"{low} to {high}" if np.isfinite(half) else ""


def _signed(value: float, measure: str) -> str:
    return f"{value:+.2f}" if _is_fraction(measure) else f"{value:+.3g}"


def _figure(labels: Sequence[str], results: Results, measure: str, title: str) -> plots.Figure:
    """Return means with error bars: the last part of a name on the axis, the others as series."""
    categories = list(dict.fromkeys(name[-1] for name in results))
    looks = zip(itertools.cycle(COLORS), itertools.cycle(MARKERS), strict=False)
    series = []
    for group, (color, marker) in zip(dict.fromkeys(n[:-1] for n in results), looks, strict=False):
        found = [results.get((*group, last)) for last in categories]
        values = [np.nan if one is None else _scaled(one[measure], measure) for one in found]
        series.append(plots.Series(", ".join(group), values, color=color, marker=marker))
    turned = len(categories) > 8
    place, value = labels[-1], title + " (%)" * _is_fraction(measure)
    x_label, y_label = (value, place) if turned else (place, value)
    dots = plots.Dots(
        series, categories, seeds=True, horizontal=turned, x_label=x_label, y_label=y_label
    )
    height = 2.6 if not turned else 1 + 0.25 * len(categories)
    return plots.Figure([dots], height=height, legend="below" if len(series) > 1 else "")


def _said(name: Name, labels: Sequence[str]) -> str:
    return ", ".join(f"{label} {part}" for label, part in zip(labels, name, strict=True))


def _is_training(measure: str) -> bool:
    return measure.startswith("train_")


def _is_fraction(measure: str) -> bool:
    name = measure.removeprefix("test_")
    return name in ("accuracy", "binary-accuracy") or name.startswith("top-")


def _scaled(values: np.ndarray, measure: str) -> np.ndarray:
    return 100 * values if _is_fraction(measure) else values


def _cell(values: np.ndarray | None, measure: str) -> str:
    if values is None:
        return "–"
    values = _scaled(values, measure)
    digits, of_spread = (".2f", ".2f") if _is_fraction(measure) else (".4g", ".2g")
    spread = f" ± {values.std(ddof=1):{of_spread}}" if len(values) > 1 else ""
    return f"{values.mean():{digits}}{spread}"


def _title(measure: str, part: str) -> str:
    name = measure.replace("test_", f"{part}_", 1) if measure.startswith("test_") else measure
    return name.replace("_", " ")


def _part(configs: Iterable[Config]) -> str:
    return " or ".join(sorted({"validation" if c.validate else "test" for c in configs}))


def _caption(configs: Sequence[Config]) -> str:
    """Return the data, and the seeds and steps if all points have the same."""
    names = dict.fromkeys(TITLES.get(c.data.name, c.data.name) for c in configs)
    parts = [", ".join(names) if len(names) < 4 else f"{len(names)} data sets"]
    seeds, steps = {c.seeds for c in configs}, {c.steps for c in configs}
    if seeds == {1}:
        parts.append("one seed")
    else:
        count = f"{seeds.pop()} " if len(seeds) == 1 else ""
        parts.append(f"mean ± standard deviation over {count}seeds")
    if len(steps) == 1:
        parts.append(f"{steps.pop():,} steps")
    return ", ".join(parts)
