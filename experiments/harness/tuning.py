"""Tuning: the learning rate and other settings of every point, chosen on the validation part.

`python -m experiments.NAME --tune` writes `tuned/NAME.json` beside the study, which reads it from
then on. The test part takes no part in it, and neither do the seeds of the study.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epy

from cnn.errors import InputError, unknown_name
from cnn.train.recipe import Recipe
from experiments.harness.results import Name, Points, Results
from experiments.harness.settings import RECIPE, Settings
from experiments.harness.tables import Table

with epy.lazy_imports():
    import numpy as np

    from cnn.train import files

if TYPE_CHECKING:
    from cnn.train import Config

    Values = tuple[float, ...]  # one for each setting of the grid

FIRST_SEED, SEEDS = 1000, 3
"""Seeds that tune; a study counts its own from 0."""
WIDEST = 4
"""How often neighbours of the best values are tried at most."""


@dataclass(frozen=True)
class Tuning:
    """What a study tunes, and where it keeps what was found."""

    program: str
    """`__file__` of the study."""
    by: Callable[[Name], Name | None] = lambda name: name
    """From a point to its group, whose points have the same settings; None for not tuned."""
    grid: Mapping[str, Sequence[float]] = field(
        default_factory=lambda: {
            "lr": (0.01, 0.02, 0.04),
            "weight_decay": (0.0, 0.1),
        }
    )
    """Fields of the recipe with the values to try, in ascending order, the learning rate first."""
    points: Callable[[Any], Points] | None = None
    """From settings to the points to tune on, with validation data of their own as test data. By
    default they are those of the study, each with a part held out."""

    def __post_init__(self) -> None:
        known = {one.name for one in fields(Recipe)} - set(RECIPE)  # those come from `Settings`
        for name, values in self.grid.items():
            if name not in known:
                raise unknown_name("tuned setting", name, known)
            if not values or list(values) != sorted(set(values)):
                raise InputError(f"grid must have ascending values of {name}, got {values}")
        if not self.grid:
            raise InputError('grid must have a setting, {"lr": (0.01, 0.02)}, got none')

    @property
    def path(self) -> Path:
        """The file of the tuned values."""
        program = Path(self.program)
        return program.parent / "tuned" / f"{program.stem}.json"

    def read(self) -> dict[str, Any]:
        """Return what the file holds; nothing if there is none."""
        if not self.path.exists():
            return {}
        try:
            found: dict[str, Any] = files.read_json(self.path)
            known = found["data"], found["steps"], *(g["best"] for g in found["groups"].values())
        except (ValueError, LookupError, TypeError, AttributeError):
            known = ()
        if not known or any(set(best) != set(self.grid) for best in known[2:]):
            raise InputError(f"{self.path} does not hold what this study tunes: --tune it again")
        return found

    def apply(self, points: Points, settings: Settings) -> dict[Name, Config]:
        """Return the points with their tuned settings, except those that `settings` give.

        What was tuned on other data is not used. That, other steps, and points that were not tuned
        are named on standard error.
        """
        tuned, data = self.read(), settings.data_name
        groups = tuned.get("groups", {}) if tuned.get("data") == data else {}
        changed, missing = dict(points), []
        for name, config in points.items():
            group = self.by(name)
            if group is not None and "/".join(group) in groups:
                best: dict[str, Any] = groups["/".join(group)]["best"]
                by_hand = {key for key in best if getattr(settings, key, None) is not None}
                new = {key: value for key, value in best.items() if key not in by_hand}
                changed[name] = replace(config, **new)
            elif group is not None:
                missing.append("/".join(name))
        if missing:
            few = ", ".join(missing[:3]) + ", ..." * (len(missing) > 3)
            print(f"{len(missing)} points are not tuned on {data}: {few}", file=sys.stderr)
        elif tuned and tuned["steps"] != settings.steps:
            print(f"the points are tuned for {tuned['steps']:,} steps", file=sys.stderr)
        return changed

    def groups(self, points: Points) -> dict[Name, list[Config]]:
        """Return the runs of each group; in a group they differ only in what a seed draws."""
        found: dict[Name, list[Config]] = {}
        for name, config in points.items():
            if (group := self.by(name)) is not None:
                found.setdefault(group, []).append(config)
        return found


def search(
    tuning: Tuning,
    groups: Mapping[Name, Sequence[Config]],
    train: Callable[[Points], Results],
) -> dict[str, Any]:
    """Try the grid for every group, then neighbours of the best and of the chosen values.

    It ends when all of these were tried, so that neither has a better neighbour. Of equal ones,
    which small validation parts have, all have their neighbours tried.

    Args:
        tuning: The grid.
        groups: The runs of each group.
        train: Trains points and returns their outcomes, on validation data.

    Returns:
        By group, the best settings and all that was tried, with the accuracies of the seeds.
    """
    names = list(tuning.grid)

    def point(group: Name, values: Values, i: int) -> tuple[Name, Config]:
        settings: dict[str, Any] = dict(zip(names, values, strict=True))
        name = ("/".join(group), *(f"{value:g}" for value in values), str(i))
        return name, replace(groups[group][i], **settings)

    tried: dict[Name, dict[Values, list[float]]] = {group: {} for group in groups}
    wanted = {group: set(itertools.product(*tuning.grid.values())) for group in groups}
    for _ in range(1 + WIDEST):
        named = {
            (group, values): dict(point(group, values, i) for i in range(len(configs)))
            for group, configs in groups.items()
            for values in sorted(wanted[group])
        }
        if not named:
            break
        outcomes = train({name: config for of in named.values() for name, config in of.items()})
        for (group, values), of in named.items():
            accuracies = np.concatenate([outcomes[name]["test_accuracy"] for name in of])
            tried[group][values] = accuracies.tolist()
        wanted = {
            group: set().union(
                *(_neighbours(results, at) for at in (*_all_best(results), _steadiest(results)))
            )
            for group, results in tried.items()
        }
    found = {}
    for group, results in tried.items():
        best = _steadiest(results)
        found["/".join(group)] = {
            "best": dict(zip(names, best, strict=True)),
            "unfinished": bool(wanted[group]),
            "tried": [[dict(zip(names, v, strict=True)), results[v]] for v in sorted(results)],
        }
    return found


def _all_best(results: Mapping[Values, Sequence[float]]) -> list[Values]:
    """Return all values with the highest mean."""
    means = {values: np.mean(accuracies) for values, accuracies in results.items()}
    highest = max(means.values())
    return [values for values, mean in means.items() if np.isclose(mean, highest, rtol=1e-9)]


def _best(results: Mapping[Values, Sequence[float]]) -> Values:
    """Return the values with the highest mean; of equal ones the smallest values."""
    return max(sorted(results), key=lambda values: sum(results[values]) / len(results[values]))


def _steadiest(results: Mapping[Values, Sequence[float]]) -> Values:
    """Return the best values at the smallest learning rate that is as good as the best one.

    That is, within one standard error, the median of those of all settings. A larger rate that is
    no better for the seeds that tune may fail for another seed. The rate is the first setting.
    """
    scores = {values: np.array(accuracies) for values, accuracies in results.items()}
    errors = [one.std(ddof=1) / len(one) ** 0.5 for one in scores.values() if len(one) > 1]
    lowest = scores[_best(results)].mean() - (np.median(errors) if errors else 0.0)
    rate = min(values[0] for values, one in scores.items() if one.mean() >= lowest)
    return _best({values: of for values, of in results.items() if values[0] == rate})


def _neighbours(results: Mapping[Values, Sequence[float]], values: Values) -> set[Values]:
    """Return the neighbours of `values` that were not tried: one setting higher or lower.

    Beyond an end of the values that were tried of a setting, the next one continues their last
    ratio; after 0 it is 10. Below 0 there is none.
    """
    found = set()
    for i, value in enumerate(values):
        line = sorted({tried[i] for tried in results})
        at = line.index(value)
        lower, higher = line[at - 1] if at else None, line[at + 1] if at + 1 < len(line) else None
        if lower is None and value > 0 and len(line) > 1:
            lower = value * value / line[1]
        if higher is None and len(line) > 1:
            higher = value * (value / line[-2] if line[-2] else 10)
        for near in (lower, higher):
            if near is not None:
                found.add((*values[:i], float(f"{near:.3g}"), *values[i + 1 :]))
    return found - set(results)


def write(path: Path, facts: Mapping[str, Any], groups: Mapping[str, Any]) -> None:
    """Write the file of tuned values, a line for each group."""
    lines = [f" {json.dumps(key)}: {json.dumps(value)},\n" for key, value in facts.items()]
    listed = ",\n".join(
        f"  {json.dumps(name, ensure_ascii=False)}: {json.dumps(group)}"
        for name, group in groups.items()
    )
    files.write_atomic(path, f'{{\n{"".join(lines)} "groups": {{\n{listed}\n }}\n}}\n')


def table(groups: Mapping[str, Any]) -> Table:
    """Return the best settings of groups, with their validation accuracy."""
    rows = []
    for name, group in groups.items():
        accuracy = next(of for values, of in group["tried"] if values == group["best"])
        end = " (unfinished)" if group["unfinished"] else ""
        settings = ", ".join(f"{key} {value:g}" for key, value in group["best"].items())
        rows.append([name, settings + end, np.array(accuracy), len(group["tried"])])
    heads = ["points", "best settings", "validation accuracy, %", "tried"]
    return Table("Chosen on the validation part", heads, rows)
