"""The section of a study's page about its larger data set (`--full`), beside published accuracies.

It is made from the lines alone: `full.jsonl` beside the page. The data set is not needed.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

from etils import epy

from cnn.errors import InputError
from experiments.harness.committed import Line, origins
from experiments.harness.tables import Table

with epy.lazy_imports():
    import numpy as np

if TYPE_CHECKING:
    from experiments.harness.results import Name
    from experiments.harness.study import Study

FULL = "full.jsonl"


def tested(study: Study[Any], lines: Iterable[Line]) -> list[Line]:
    """Return the lines measured on the test set; of two of a point and a seed, the later one."""
    found = {(_name(study, one), one["seed"]): one for one in lines if "test_accuracy" in one}
    return list(found.values())


def table(study: Study[Any], lines: Sequence[Line]) -> Table:
    """Return the test accuracy of each point, beside the one that was published for it.

    Seeds of a point that were trained by another recipe have a row of their own.
    """
    seeds: dict[tuple[Name, str], list[Line]] = {}
    for line in lines:
        name, config = _name(study, line), line["config"]
        trained = json.dumps([config["data"], config["steps"], config["recipe"]], sort_keys=True)
        seeds.setdefault((name[:-1] if study.pooled else name, trained), []).append(line)
    rows = []
    for (name, _), of in seeds.items():
        config, accuracies = of[0]["config"], np.array([one["test_accuracy"] for one in of])
        published = [text for start, text in study.published.items() if name[: len(start)] == start]
        steps, lr = f"{config['steps']:,}", f"{config['recipe']['lr']:g}"
        facts = [of[0]["parameters"], steps, lr, len(of), accuracies]
        rows.append(["/".join(name), config["data"], *facts, "".join(published)])
    heads = ["point", "data", "parameters", "steps", "learning rate", "seeds", "test, %"]
    caption = "Test accuracy, mean ± standard deviation over the seeds"
    return Table(caption, [*heads, "published, %"], rows)


def provenance(lines: Sequence[Line]) -> str:
    """Return how many lines there are, of which environment, and how long they took."""
    minutes = sum(line["seconds"] for line in lines) / 60
    where = "\n".join(f"- {n:,} of {one}" for one, n in origins(lines).items())
    return f"From [{len(lines)} lines]({FULL}), {minutes:.0f} minutes of training:\n\n{where}"


def _name(study: Study[Any], line: Line) -> Name:
    if lacking := [label for label in study.labels if label not in line]:
        raise InputError(f"a line must have {lacking[0]!r}: it is of another study, remove it")
    return tuple(str(line[label]) for label in study.labels)
