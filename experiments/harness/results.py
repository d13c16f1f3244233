"""What a study measured: lines of JSON under the hash of what decides them, and comparisons."""

from __future__ import annotations

import contextlib
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epy

from cnn.errors import InputError
from cnn.html_table import html_table
from experiments.harness.tables import Table, number

with epy.lazy_imports():
    import jax
    import numpy as np
    from scipy import special

    from cnn.layers import serialization
    from cnn.ops import implementations
    from cnn.train import files, metrics, recipe, run_identity

if TYPE_CHECKING:
    from flax import linen as nn
    from numpy.typing import ArrayLike

    from cnn.train import Config, Result

Name = tuple[str, ...]
"""The name of a point of a study, in parts."""
Points = Mapping[Name, "Config"]
"""The runs of a study by name."""
Measure = Callable[["Config", "Result"], Mapping[str, "Sequence[ArrayLike]"]]
"""Further measures of a trained point: by name, one value per seed, a number or an array."""


@dataclass(frozen=True)
class Outcome:
    """What a point measured: arrays with one entry per seed; accuracies are fractions."""

    parameters: int
    values: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in self.values:
            raise InputError(
                f"results have no {name!r}, only {', '.join(self.values)}: remove lines of another "
                "version from results.jsonl"
            )
        return self.values[name]

    def __repr__(self) -> str:
        parts = [f"{self.parameters:,} parameters", *(f"{k} {v}" for k, v in self._texts())]
        return f"<Outcome: {', '.join(parts)}>"

    def _repr_html_(self) -> str:
        rows = [["parameters", f"{self.parameters:,}"], *map(list, self._texts())]
        return html_table(["measure", "mean ± standard deviation"], rows)

    def _texts(self) -> Iterator[tuple[str, str]]:
        """Yield each measure with its mean over the seeds, or with its shape."""
        for name, values in self.values.items():
            yield name, number(values, 4) if values.ndim == 1 else f"of shape {values.shape}"


Results = Mapping[Name, Outcome]
"""What the points of a study measured, by name."""


def keys(points: Points, measure: Measure | None) -> dict[tuple[Name, int], str]:
    """Return, for each point and seed, the hash of what decides its result.

    That is the program (`cnn.train.program_hash`: a network whose code was edited has another one,
    and another version of JAX may give one), the data, the recipe and the seed. Of `measure` the
    source text counts, but not the functions that it calls. Fields of the recipe count only where
    they differ from their defaults, so adding a field changes no key.
    """
    hashes = {id(c.data): c.data.content_hash() for c in points.values()}
    measured = measure and _source(measure)
    found = {}
    for name, config in points.items():
        with naming(name):
            identity = recipe.identity(config)
            programs = [_program(model, config) for model, _ in config.phases]
        defaults = recipe.Recipe
        changed = {k: v for k, v in identity.items() if v != getattr(defaults, k)}
        settings = {k: v for k, v in changed.items() if k not in ("seed", "seeds")}
        what = {"steps": config.steps, "recipe": settings, "programs": programs}
        what |= {"data": hashes[id(config.data)], "measured": measured}
        for seed in config.seed_range:
            text = json.dumps({**what, "seed": seed}, sort_keys=True)
            found[name, seed] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def _program(model: nn.Module, config: Config) -> str:
    """Return the hash of a program, or else the value of a model that training will refuse."""
    try:
        return run_identity.program_hash(model, config, config.examples)
    except Exception:
        return json.dumps(serialization.to_spec(model), sort_keys=True, default=str)


def environment() -> dict[str, str]:
    """Return what rounding, and so a result, depends on besides its key."""
    return {
        "jax": jax.__version__,
        "platform": jax.default_backend(),
        "implementations": implementations.selected(),
    }


def describe_environments(rows: Iterable[Mapping[str, Any]]) -> str | None:
    """Return a line if these results were computed in different environments."""
    texts = [", ".join(f"{k} {v}" for k, v in row.get("environment", {}).items()) for row in rows]
    counts = Counter(text or "an unknown one" for text in texts)
    if len(counts) < 2:
        return None
    listed = "; ".join(f"{count} of {text}" for text, count in counts.most_common())
    return f"results of different environments, equal only up to rounding: {listed}"


@contextlib.contextmanager
def naming(name: Name) -> Iterator[None]:
    """Let an `InputError` say that it is about this point."""
    try:
        yield
    except InputError as error:
        raise InputError(f"point {'/'.join(name)}: {error}") from error


def _source(measure: Measure) -> str:
    """Return the text of a function. Raise `InputError` if it was typed at a prompt."""
    try:
        return inspect.getsource(measure)
    except OSError:
        name = getattr(measure, "__name__", measure)
        raise InputError(
            f"measure {name!r} has no source file, and its text is part of the results' key: "
            "write it into a file"
        ) from None


def _description(config: Config) -> dict[str, Any]:
    """Return what was trained as plain values, except the data and the seed."""
    identity = recipe.identity(config)
    return {
        "steps": config.steps,
        "recipe": {k: v for k, v in identity.items() if k not in ("seed", "seeds")},
        "model": serialization.to_spec(config.model),
        "relax_to": config.relax_to and serialization.to_spec(config.relax_to),
    }


def read(path: Path, needed: Mapping[str, Sequence[str]]) -> dict[str, dict[str, Any]]:
    """Return the lines of a results file by key.

    Lines that have no numbers, or not the measures that are `needed` by key, are left out and named
    in a warning.
    """

    def is_usable(row: dict[str, Any]) -> bool:
        return _is_result(row) and set(needed.get(row["key"], ())) <= set(row["measured"])

    return {row["key"]: row for row in files.read_jsonl(path, is_usable)}


def _is_result(row: dict[str, Any]) -> bool:
    try:
        values = [np.asarray(row[name]) for name in row["measured"]]
    except (LookupError, TypeError, ValueError, RecursionError):
        return False
    typed = type(row.get("key")) is str and type(row.get("parameters")) is int
    return typed and len(values) > 0 and all(value.dtype == float for value in values)


def measures(config: Config) -> list[str]:
    """Return the names of what a run measures, as they stand in a line."""
    names = ["loss", *(metrics.metric_name(metric) for metric in metrics.metrics_of(config))]
    return [f"{part}_{name}" for part in (_part(config), "train") for name in names]


def _part(config: Config) -> str:
    return "validation" if config.validate else "test"


def lines(
    labels: dict[str, str], config: Config, result: Result, more: Mapping[str, Sequence[ArrayLike]]
) -> list[dict[str, Any]]:
    """Return the record of each seed; accuracies are fractions.

    Raises:
        InputError: If two values of a record have one name.
    """
    measured: dict[str, Any] = {f"{_part(config)}_{name}": v for name, v in result.test.items()}
    measured |= {f"train_{name}": v for name, v in result.train.items()}
    facts = {
        "measured": [*measured, *more],
        "parameters": result.parameters,
        "seconds": round(result.seconds, 2),
        "environment": environment(),
        "config": _description(config),
    }
    names = [*labels, "key", "seed", *measured, *more, *facts]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"labels and measures must have names of their own, got {twice}")

    def of_seed(i: int) -> dict[str, Any]:
        values = {**measured, **more}
        return {name: np.asarray(of[i], float).tolist() for name, of in values.items()}

    return [{**labels, "seed": seed, **of_seed(i), **facts} for i, seed in enumerate(result.seeds)]


def outcome(rows: Sequence[Mapping[str, Any]]) -> Outcome:
    """Return the outcome of a point from the records of its seeds.

    The validation part takes the place of the test part, as in `Result`.

    Raises:
        InputError: If the records do not have the same measures of the same shapes.
    """
    measured = {name: name for name in rows[0]["measured"]}
    for name in [name.removeprefix("train_") for name in measured if name.startswith("train_")]:
        if f"validation_{name}" in measured:
            measured[f"validation_{name}"] = f"test_{name}"
    for row in rows:
        if _shapes(row) != _shapes(rows[0]):
            raise InputError(
                f"results of keys {rows[0]['key']!r} and {row['key']!r} must have the same "
                "measures and shapes: remove their lines from results.jsonl"
            )
    values = {to: np.array([row[name] for row in rows]) for name, to in measured.items()}
    return Outcome(rows[0]["parameters"], values)


def _shapes(row: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    return {name: np.shape(row[name]) for name in row["measured"]}


def pool_seeds(results: Results) -> dict[Name, Outcome]:
    """Return the outcomes by name without its last part: points that differ there become seeds."""
    together: dict[Name, list[Outcome]] = {}
    for name, one in results.items():
        together.setdefault(name[:-1], []).append(one)
    pooled = {}
    for name, parts in together.items():
        values = {key: np.concatenate([p[key] for p in parts]) for key in parts[0].values}
        pooled[name] = Outcome(parts[0].parameters, values)
    return pooled


def paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the mean of a − b over seeds, and half the width of its 95 % confidence interval.

    The interval is Student's t of the differences: what both have in common per seed cancels. With
    one seed it is infinite.
    """
    difference = np.asarray(a) - np.asarray(b)
    n = len(difference)
    if n < 2:
        return float(difference.mean()), float("inf")
    half = special.stdtrit(n - 1, 0.975) * difference.std(ddof=1) / np.sqrt(n)
    return float(difference.mean()), float(half)


def difference(a: np.ndarray, b: np.ndarray, brief: bool = False) -> str:
    """Return a − b of fractions, the mean over seeds, as text with its interval (see `paired`).

    "+1.2 points (95 % interval -0.3 to +2.7)", or "+1.2 (-0.3 to +2.7)" if `brief`. The interval is
    left out if there is one seed.
    """
    mean, half = paired(100 * a, 100 * b)
    unit, kind = ("", "") if brief else (" points", "95 % interval ")
    interval = f" ({kind}{mean - half:+.1f} to {mean + half:+.1f})" if np.isfinite(half) else ""
    return f"{mean:+.1f}{unit}{interval}"


def differences(
    results: Results, pairs: Iterable[tuple[Name, Name]], value: str = "test_accuracy"
) -> Table:
    """Return the paired differences a − b, in points of a fraction, of all pairs in `results`."""
    rows, seeds = [], 0
    for a, b in pairs:
        if a in results and b in results:
            mean, half = paired(100 * results[a][value], 100 * results[b][value])
            seeds = len(results[a][value])
            interval = f"{mean - half:+.2f} to {mean + half:+.2f}" if np.isfinite(half) else "–"
            rows.append([f"{'/'.join(a)} − {'/'.join(b)}", f"{mean:+.2f}", interval])
    caption = f"Differences in {value.replace('_', ' ')}, paired by seed ({seeds} seeds)"
    return Table(caption, ["difference", "points", "95 % interval"], rows)
