"""What a study measured: lines of JSON under the hash of what decides them, and comparisons."""

from __future__ import annotations

import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cnn.errors import InputError

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from cnn.data import Dataset
    from cnn.train import Config, Result
    from experiments.harness.report import Table

Name = tuple[str, ...]
"""What tells a point from the others of its study, in words."""
Measure = Callable[["Config", "Result"], Mapping[str, Sequence["ArrayLike"]]]
"""What else is measured on a trained point: by name, one value per seed, a number or an array."""


@dataclass(frozen=True)
class Outcome:
    """What a point measured: arrays with one entry per seed; accuracies are fractions."""

    parameters: int
    values: Mapping[str, np.ndarray]

    def __getitem__(self, name: str) -> np.ndarray:
        return self.values[name]


def keys(points: Mapping[Name, Config], measure: Measure | None) -> dict[tuple[Name, int], str]:
    """Return, for each point and seed, the hash of what decides its result.

    Of `measure` that is its text, not what it calls: a study whose measures change computes anew.
    Fields of the recipe count where they are not at their defaults: one that is added later leaves
    the keys of what was computed before as they are.
    """
    from cnn.train.recipe import Recipe

    prints = {id(c.data): _fingerprint(c.data) for c in points.values()}
    measured = measure and _source(measure)
    hashes = {}
    for name, config in points.items():
        what = {**_description(config), "data": prints[id(config.data)], "measured": measured}
        what["recipe"] = {k: v for k, v in what["recipe"].items() if v != getattr(Recipe, k)}
        for seed in config.seed_range:
            text = json.dumps({**what, "seed": seed}, sort_keys=True)
            hashes[name, seed] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return hashes


def _source(measure: Measure) -> str:
    """Return the text of a function. Raises `InputError` where it was typed at a prompt."""
    try:
        return inspect.getsource(measure)
    except OSError:
        name = getattr(measure, "__name__", measure)
        raise InputError(
            f"measure {name!r} has no file, and its results need one to be told from others': "
            "write it into one"
        ) from None


def _fingerprint(data: Dataset) -> str:
    """Return a hash of every example of a data set, or of the files where they stay."""
    from cnn.data.lazy import Stored

    digest = hashlib.sha256(data.name.encode())
    for split in (data.train, data.test):
        if isinstance(split.x, Stored):
            digest.update(f"{split.x.name} {split.x.mean} {split.x.std}".encode())
        x = split.x.rows if isinstance(split.x, Stored) else split.x
        digest.update(np.ascontiguousarray(x).tobytes())
        digest.update(np.ascontiguousarray(split.y).tobytes())
    return digest.hexdigest()


def _description(config: Config) -> dict[str, Any]:
    """Return as JSON what was trained: everything but the data and the seed."""
    from cnn.layers.serialization import to_spec
    from cnn.train.recipe import identity

    recipe = {k: v for k, v in identity(config).items() if k not in ("seed", "seeds")}
    return {
        "steps": config.steps,
        "recipe": recipe,
        "model": to_spec(config.model),
        "relax_to": config.relax_to and to_spec(config.relax_to),
    }


def found(path: Path) -> dict[str, dict[str, Any]]:
    """Read what is there, and take off a last line that was cut off while being written."""
    from cnn.train.run_dir import read, write_whole

    rows = read(path)
    if path.exists() and not path.read_bytes().endswith(b"\n"):
        write_whole(path, "".join(json.dumps(row) + "\n" for row in rows))
    return {row["key"]: row for row in rows if "key" in row}


def lines(
    labels: dict[str, str],
    config: Config,
    result: Result,
    more: Mapping[str, Sequence[ArrayLike]],
) -> list[dict[str, Any]]:
    """Return the record of each seed; accuracies are fractions."""
    measured: dict[str, Any] = {
        "test_accuracy": result.test_accuracy,
        "test_loss": result.test_loss,
        "train_accuracy": result.train_accuracy,
        "train_loss": result.train_loss,
        **more,
    }
    return [
        {
            **labels,
            "seed": seed,
            **{name: np.asarray(of[i], float).tolist() for name, of in measured.items()},
            "measured": list(measured),
            "parameters": result.parameters,
            "seconds": round(result.seconds, 2),
            **_description(config),
        }
        for i, seed in enumerate(result.seeds)
    ]


def outcome_of(rows: Sequence[Mapping[str, Any]]) -> Outcome:
    """Return what the records of a point's seeds say together."""
    names = rows[0]["measured"]
    values = {name: np.array([row[name] for row in rows]) for name in names}
    return Outcome(rows[0]["parameters"], values)


def paired(a: np.ndarray, b: np.ndarray) -> tuple[float, float]:
    """Return the mean of a − b over seeds, and half the width of its 95 % confidence interval.

    Seeds are pairs, so what they have in common cancels: Student's t of the differences. With one
    seed the interval is infinite.
    """
    from scipy.special import stdtrit

    difference = np.asarray(a) - np.asarray(b)
    n = len(difference)
    if n < 2:
        return float(difference.mean()), float("inf")
    half = stdtrit(n - 1, 0.975) * difference.std(ddof=1) / np.sqrt(n)
    return float(difference.mean()), float(half)


def differences(
    results: Mapping[Name, Outcome],
    pairs: Iterable[tuple[Name, Name]],
    value: str = "test_accuracy",
) -> Table:
    """Return the paired differences, in points of a fraction, of the pairs that were run."""
    from experiments.harness.report import Table

    rows = []
    seeds = 0
    for a, b in pairs:
        if a in results and b in results:
            mean, half = paired(100 * results[a][value], 100 * results[b][value])
            seeds = len(results[a][value])
            interval = f"{mean - half:+.2f} to {mean + half:+.2f}" if np.isfinite(half) else "–"
            rows.append([f"{'/'.join(a)} − {'/'.join(b)}", f"{mean:+.2f}", interval])
    caption = f"Differences in {value.replace('_', ' ')}, paired by seed ({seeds} seeds)"
    return Table(caption, ["difference", "points", "95 % interval"], rows)
