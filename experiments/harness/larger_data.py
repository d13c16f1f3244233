"""The section of a study's page about its larger data set (`--full`), beside published accuracies.

It is made from the lines, `full.jsonl` beside the page, and from `full.txt`, if there is one: what
a reader must know of the data, such as that its images are a lossy copy. The data set is not
needed.
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

FULL, NOTE, TEST = "full.jsonl", "full.txt", "test_accuracy"


def tested(study: Study[Any], lines: Iterable[Line]) -> list[Line]:
    """Return the lines measured on the test set.

    Of two lines of a point, a seed and a data set, the later one counts. Of seeds that were trained
    together, only the first line in a file has their `config`.

    Raises:
        InputError: If the line with the `config` of others is missing.
    """
    found: dict[tuple[Name, int, str], Line] = {}
    configs: dict[Name, Any] = {}
    for one in lines:
        name = _name(study, one)
        if (config := one.get("config", configs.get(name))) is None:
            raise InputError(f"the line of {'/'.join(name)} with a config is missing: run it again")
        configs[name] = config
        if TEST in one:
            found[name, one["seed"], config["data"]] = {**one, "config": config}
    return list(found.values())


def table(study: Study[Any], lines: Sequence[Line]) -> Table:
    """Return the test accuracy of each point, and what else was published or is claimed of all.

    Seeds of a point that were trained by another recipe have a row of their own.
    """
    known = dict.fromkeys(m for of in study.published.values() for m in of)
    claimed = [c.measure for c in study.claims if all(c.measure in line for line in lines)]
    measures = {m: _label(m) for m in dict.fromkeys((TEST, *known, *claimed))}
    seeds: dict[tuple[Name, str], list[Line]] = {}
    for line in lines:
        name, config = _name(study, line), line["config"]
        trained = json.dumps([config["data"], config["steps"], config["recipe"]], sort_keys=True)
        seeds.setdefault((name[:-1] if study.pooled else name, trained), []).append(line)
    rows = []
    for (name, _), of in seeds.items():
        config = of[0]["config"]
        point = (config["data"], *name)
        published: dict[str, str] = {}
        for start, texts in study.published.items():
            if point[: len(start)] == start:
                published |= texts
        row = ["/".join(name), config["data"], of[0]["parameters"], f"{config['steps']:,}"]
        row += [f"{config['recipe']['lr']:g}", len(of)]
        for measure in measures:
            measured = all(measure in one for one in of)
            row.append(np.array([one[measure] for one in of]) if measured else "")
            if measure in known:
                row.append(published.get(measure, ""))
        rows.append(row)
    heads = ["point", "data", "parameters", "steps", "learning rate", "seeds"]
    for measure, label in measures.items():
        heads += [f"{label}, %", *([f"published {label}, %"] if measure in known else [])]
    return Table("Accuracy, mean ± standard deviation over the seeds", heads, rows)


def provenance(lines: Sequence[Line]) -> str:
    """Return how many lines there are, of which environment, and how long they took."""
    minutes = sum(line["seconds"] for line in lines) / 60
    where = "\n".join(f"- {n:,} of {one}" for one, n in origins(lines).items())
    return f"From [{len(lines)} lines]({FULL}), {minutes:.0f} minutes of training:\n\n{where}"


def _label(measure: str) -> str:
    known = {TEST: "test", "train_accuracy": "training"}
    return known.get(measure, measure.removesuffix(" accuracy"))


def _name(study: Study[Any], line: Line) -> Name:
    if lacking := [label for label in study.labels if label not in line]:
        raise InputError(f"a line must have {lacking[0]!r}: it is of another study, remove it")
    return tuple(str(line[label]) for label in study.labels)
