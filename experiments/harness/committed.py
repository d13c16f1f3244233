"""The committed lines of a study: one for every point and seed of its default settings.

They are copied from the folder of results that the study left, and read without training.
"""

from __future__ import annotations

import json
import shlex
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from etils import epy

from cnn.errors import InputError
from experiments.harness import results
from experiments.harness.results import Name, Points, Results

with epy.lazy_imports():
    from cnn.train import files, recipe

if TYPE_CHECKING:
    from cnn.train import Config
    from experiments.harness.study import Settings, Study

Line = Mapping[str, Any]


class Committed(NamedTuple):
    """The lines of a study, and what they say of its points."""

    lines: Sequence[Line]
    points: Points
    found: Results
    validated: Results
    """The outcomes on the validation part of the points of which the best is taken."""


def take(study: Study[Any], settings: Settings, paths: Iterable[Path]) -> list[Line]:
    """Return the lines in `paths` that the study would not compute again, in the order of points.

    Of two lines of a key, the one of the later path counts.

    Raises:
        InputError: If a line is missing.
    """
    paths, lines = list(paths), list[Line]()
    configs = study.configs(settings)
    for points in (configs, study.held_out(settings, configs)):
        keys = results.keys(points, study.measure)
        measures = {key: results.measures(points[name]) for (name, _), key in keys.items()}
        found = {key: line for path in paths for key, line in results.read(path, measures).items()}
        for (name, seed), key in keys.items():
            if key not in found:
                raise _missing(paths[-1], settings, points[name], name, seed)
            # points that are the same network share a key, and the line has the name of one
            lines.append({**found[key], **dict(zip(study.labels, name, strict=True))})
    return lines


def write(path: Path, lines: Sequence[Line]) -> None:
    """Write the lines, in place of those that are there."""
    path.unlink(missing_ok=True)
    files.append_jsonl(path, [dict(line) for line in lines])


def read(path: Path, study: Study[Any], settings: Settings) -> Committed:
    """Return the lines of a file.

    Raises:
        InputError: If they are not one for each point and seed of these settings.
    """
    lines = files.read_jsonl(path)
    of_seed: dict[tuple[Name, Any, bool], Line] = {}
    for line in lines:
        name = tuple(str(line.get(label)) for label in study.labels)
        key = name, line.get("seed"), any(m.startswith("validation_") for m in line["measured"])
        if key in of_seed:
            raise InputError(f"{path} has two lines of {_said(*key)}: remove one")
        of_seed[key] = line

    def outcomes(points: Points) -> Iterator[tuple[Name, results.Outcome]]:
        for name, config in points.items():
            keys = [(name, seed, config.validate) for seed in config.seed_range]
            for key in keys:
                if key not in of_seed:
                    raise _missing(path, settings, config, name, key[1])
                _check_recipe(path, of_seed[key], config, _said(*key))
            yield name, results.outcome([of_seed.pop(key) for key in keys])

    points = study.configs(settings)
    found = dict(outcomes(points))
    validated = dict(outcomes(study.held_out(settings, points)))
    for key in of_seed:
        raise InputError(f"{path} has a line of {_said(*key)}, which the study lacks: remove it")
    return Committed(lines, points, found, validated)


def _said(name: Name, seed: int, validate: bool) -> str:
    return f"point {'/'.join(name)}, seed {seed}" + ", with a part held out" * validate


def _missing(path: Path, settings: Settings, config: Config, name: Name, seed: int) -> InputError:
    program = f"python -m {type(settings).__module__}"
    command = f"{program} --only {shlex.quote('/'.join(name))} --seed {seed} --seeds 1"
    if config.validate and not settings.validate:
        command = program
    return InputError(
        f"{path} has no line of {_said(name, seed, config.validate)}: `{command}` trains it, then "
        "add --take results"
    )


def _check_recipe(path: Path, line: Line, config: Config, said: str) -> None:
    """Raise `InputError` if a line was trained otherwise than the point would be now."""
    then = line.get("config", {}).get("recipe", {})
    now = json.loads(json.dumps(recipe.identity(config)))
    differing = {field: (then[field], now[field]) for field in then.keys() & now.keys()}
    for measure, examples in line.get("examples", {}).items():
        if measure in ("test_accuracy", "validation_accuracy"):
            differing["test examples"] = examples["of"], len(config.examples.test)
    for field, (before, after) in differing.items():
        if before != after and field not in ("seed", "seeds"):
            raise InputError(
                f"{path}: the line of {said} has {field} {before}, and the study now has {after}: "
                "train it again"
            )


def origins(lines: Iterable[Line]) -> Counter[str]:
    """Return how many lines have which environment, machine and commit."""
    facts = ("machine", "commit")
    return Counter(
        ", ".join(
            f"{name} {value}"
            for name, value in {
                **line.get("environment", {"environment": "unknown"}),
                **{fact: line.get(fact, "unknown") for fact in facts},
            }.items()
        )
        for line in lines
    )
