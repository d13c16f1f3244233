"""What a study measured: lines of JSON, each under the hash of what decides it."""

from __future__ import annotations

import base64
import contextlib
import functools
import hashlib
import inspect
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epy

from cnn.errors import InputError
from cnn.html_table import html_table
from experiments.harness import predictions
from experiments.harness.tables import number

with epy.lazy_imports():
    import jax
    import numpy as np

    from cnn.layers import serialization
    from cnn.ops import implementations
    from cnn.train import files, metrics, recipe, run_dir, run_identity

if TYPE_CHECKING:
    from flax import linen as nn
    from numpy.typing import ArrayLike

    from cnn.train import Config, Result

Name = tuple[str, ...]
"""The name of a point of a study, in parts."""
Points = Mapping[Name, "Config"]
"""The runs of a study by name."""
Measure = Callable[["Config", "Result"], Mapping[str, "Sequence[ArrayLike]"]]
"""Further measures of a trained point: by name, one value per seed, a number or an array.

A boolean array says of each of some test examples whether it was right: the measure is the share,
and intervals of differences cover these examples, too (`experiments.harness.claims`). An array of
`uint8` is kept as text, with four characters for three numbers.
"""


class Examples(NamedTuple):
    """Which test examples were right."""

    correct: np.ndarray
    """Booleans `(seeds, examples)`."""
    of: int
    """Size of the test set that the examples stand for."""


@dataclass(frozen=True)
class Outcome:
    """What a point measured: arrays with one entry per seed; accuracies are fractions."""

    parameters: int
    values: Mapping[str, np.ndarray]
    examples: Mapping[str, Examples] = field(default_factory=dict)
    """By measure, the examples that it is the share of."""
    chosen: Name | None = None
    """The point that this one is, if it was chosen on the validation part."""

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
        "implementations": implementations.described(),
    }


@functools.cache  # it asks git
def provenance() -> dict[str, str]:
    """Return the commit and the machine of the results of this process."""
    found = run_dir.environment()
    git = found["git"] or {"commit": "unknown", "dirty": False}
    commit = git["commit"][:10] + " with changes" * git["dirty"]
    return {"commit": commit, "machine": found["machine"]}


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
    """Return what was trained as plain values, except the seed."""
    identity = recipe.identity(config)
    return {
        "data": config.data.name,
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
        values = [_numbers(row[name]) for name in row["measured"]]
        for packed in row.get("examples", {}).values():
            _unpack(packed)
    except (LookupError, TypeError, ValueError, RecursionError, AttributeError):
        return False
    typed = type(row.get("key")) is str and type(row.get("parameters")) is int
    return typed and len(values) > 0 and all(value.dtype == float for value in values)


def check_accuracy(points: Points, why: str) -> None:
    """Raise `InputError` for a point that does not measure its accuracy, which is needed `why`."""
    for name, config in points.items():
        if f"{_part(config)}_accuracy" not in measures(config):
            raise InputError(
                f"point {'/'.join(name)} must measure its accuracy {why}, got "
                f"{', '.join(measures(config))}: add metrics=('accuracy',)"
            )


def measures(config: Config) -> list[str]:
    """Return the names of what a run measures, as they stand in a line."""
    names = ["loss", *(metrics.metric_name(metric) for metric in metrics.metrics_of(config))]
    return [f"{part}_{name}" for part in (_part(config), "train") for name in names]


def _part(config: Config) -> str:
    return "validation" if config.validate else "test"


FIELDS = (
    *("key", "seed", "config", "examples", "measured", "parameters", "seconds"),
    *("environment", "commit", "machine"),
)
"""Names in a line besides the labels of the point and what is measured."""


def check_labels(labels: Sequence[str]) -> None:
    """Raise `InputError` for labels that cannot stand in a line."""
    if isinstance(labels, str) or not labels:
        raise InputError(f"labels must be texts, ('width',) or more, got {labels!r}")
    if taken := [label for label in labels if label in FIELDS or labels.count(label) > 1]:
        raise InputError(
            f"labels must differ from each other and from {', '.join(FIELDS)}, got {taken[0]!r}"
        )


def lines(
    labels: dict[str, str], config: Config, result: Result, more: Mapping[str, Sequence[ArrayLike]]
) -> list[dict[str, Any]]:
    """Return the record of each seed; accuracies are fractions.

    Raises:
        InputError: If two values of a record have one name.
    """
    part = _part(config)
    measured: dict[str, Any] = {f"{part}_{name}": v for name, v in result.test.items()}
    measured |= {f"train_{name}": v for name, v in result.train.items()}
    examples: dict[str, Any] = {k: of for k, of in more.items() if _is_boolean(of)}
    sizes = dict.fromkeys(examples, 0)
    if (correct := predictions.correct(config, result)) is not None:
        examples[f"{part}_accuracy"] = correct
        sizes[f"{part}_accuracy"] = len(config.examples.test)
    facts = {
        "measured": [*measured, *more],
        "parameters": result.parameters,
        "seconds": round(result.seconds / len(result.seeds), 2),
        "environment": environment(),
        **provenance(),
    }
    names = [*labels, *FIELDS, *measured, *more]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise InputError(f"labels and measures must have names of their own, got {twice}")

    def of_seed(i: int) -> dict[str, Any]:
        values = {**measured, **more}
        numbers = {
            name: np.asarray(of[i], float).mean() if name in more and name in examples else of[i]
            for name, of in values.items()
        }
        return {name: _plain(np.asarray(value)) for name, value in numbers.items()}

    def examples_of_seed(i: int) -> dict[str, Any]:
        return {name: _pack(np.asarray(of[i]), sizes[name]) for name, of in examples.items()}

    rows: list[dict[str, Any]] = [
        {**labels, "seed": seed, **of_seed(i), "examples": examples_of_seed(i), **facts}
        for i, seed in enumerate(result.seeds)
    ]
    rows[0]["config"] = _description(config)  # the seeds that train together share it
    return rows


def _is_boolean(values: Sequence[ArrayLike]) -> bool:
    return np.asarray(values[0]).dtype == bool


def _plain(values: np.ndarray) -> Any:
    """Return numbers as a line holds them."""
    if values.dtype != np.uint8:
        return values.astype(float).tolist()
    return {"uint8": base64.b64encode(values.tobytes()).decode(), "shape": list(values.shape)}


def _numbers(plain: Any) -> np.ndarray:
    """Return the numbers in a line. Raise an error if they are damaged."""
    if not isinstance(plain, dict):
        return np.asarray(plain)
    numbers = np.frombuffer(base64.b64decode(plain["uint8"], validate=True), np.uint8)
    return numbers.reshape(plain["shape"]).astype(float)


def _pack(correct: np.ndarray, of: int) -> dict[str, Any]:
    """Return booleans as text, with the number of test examples that they stand for."""
    bits = base64.b64encode(np.packbits(correct).tobytes()).decode()
    return {"correct": bits, "count": len(correct), "of": of or len(correct)}


def _unpack(packed: Mapping[str, Any]) -> np.ndarray:
    """Return the booleans. Raise `ValueError` if they are not as many as the text says."""
    bits = np.frombuffer(base64.b64decode(packed["correct"], validate=True), np.uint8)
    count, of = packed["count"], packed["of"]
    if type(count) is not int or type(of) is not int or not 0 < count <= of:
        raise ValueError(f"count and of must be whole numbers, got {count} and {of}")
    if len(bits) != -(-count // 8):
        raise ValueError(f"count must be that of the booleans, got {count}")
    return np.unpackbits(bits, count=count).astype(bool)


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
    values = {to: np.array([_numbers(row[name]) for row in rows]) for name, to in measured.items()}
    packed = {
        to: [row["examples"][name] for row in rows]
        for name, to in measured.items()
        if all(name in row.get("examples", ()) for row in rows)
    }
    examples = {
        name: Examples(np.stack([_unpack(one) for one in of]), of[0]["of"])
        for name, of in packed.items()
    }
    return Outcome(rows[0]["parameters"], values, examples)


def of_lines(rows: Iterable[Mapping[str, Any]], labels: Sequence[str]) -> dict[Name, Outcome]:
    """Return the outcomes of lines by name, in the order of the lines.

    Raises:
        InputError: If a line does not have the labels, or a point has a seed twice.
    """
    by_name: dict[Name, dict[int, Mapping[str, Any]]] = {}
    for row in rows:
        if missing := [label for label in (*labels, "seed") if label not in row]:
            raise InputError(f"line of key {row.get('key')!r} has no {', '.join(missing)}")
        seeds = by_name.setdefault(tuple(row[label] for label in labels), {})
        if row["seed"] in seeds:
            name = "/".join(row[label] for label in labels)
            raise InputError(f"seed {row['seed']} of point {name} has two lines: remove one")
        seeds[row["seed"]] = row
    return {name: outcome([of[seed] for seed in sorted(of)]) for name, of in by_name.items()}


def pool_seeds(results: Results) -> dict[Name, Outcome]:
    """Return the outcomes by name without its last part: points that differ there become seeds."""
    together: dict[Name, list[Outcome]] = {}
    for name, one in results.items():
        together.setdefault(name[:-1], []).append(one)
    pooled = {}
    for name, parts in together.items():
        values = {key: np.concatenate([p[key] for p in parts]) for key in parts[0].values}
        examples = {
            key: Examples(np.concatenate([p.examples[key].correct for p in parts]), of.of)
            for key, of in parts[0].examples.items()
        }
        pooled[name] = Outcome(parts[0].parameters, values, examples)
    return pooled


def _shapes(row: Mapping[str, Any]) -> dict[str, tuple[int, ...]]:
    counts = {f"{name} of": (x["count"], x["of"]) for name, x in row.get("examples", {}).items()}
    return {**{name: _numbers(row[name]).shape for name in row["measured"]}, **counts}
