"""Pages of studies, made from committed lines of results: nothing is trained.

A study is a folder below `docs/studies` and a program `experiments.NAME`. `results.jsonl` in that
folder holds a line for every point and seed of the study's default settings; `index.md` and the
figures are made from it. The page of a study without lines says what it claims.
"""

from __future__ import annotations

import importlib
import inspect
import itertools
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from etils import epy

from experiments.harness import (
    claims,
    committed,
    comparison,
    larger_data,
    panels,
    plots,
    results,
    tuning,
)
from experiments.harness.larger_data import FULL, NOTE
from experiments.harness.page_files import LINES, Page, read, sources_hash
from experiments.harness.summary import Summary
from experiments.harness.tables import Table

with epy.lazy_imports():
    from cnn.train import files

NOT_MEASURED = "**Not measured yet.**"
"""How the answer of a study without lines begins."""


def names(root: Path) -> list[str]:
    """Return the studies of the repository `root`: programs with a question, folders of pages."""
    programs = (root / "experiments").glob("*.py")
    found = {path.stem for path in programs if re.search(r"^QUESTION = ", read(path), re.M)}
    return sorted(found | {p.name for p in (root / "docs/studies").iterdir() if p.is_dir()})


def make(root: Path, name: str) -> Page:
    """Return the page of a study.

    Without lines, it says what is claimed.

    Raises:
        InputError: If the lines are not those of the study's default settings.
    """
    module = importlib.import_module(f"experiments.{name}")
    study, folder, figures = module.STUDY, root / "docs/studies" / name, dict[str, plots.Figure]()
    if (folder / LINES).exists():
        settings = module.Settings()
        lines, points, found, validated = committed.read(folder / LINES, study, settings)
        made = study.conclude(settings, found, validated, points)
        figures |= made.figures
        body = [*_found(made), "## How it was measured", _protocol(name, lines), *made.notes]
        if (tuned := root / f"experiments/tuned/{name}.json").exists():
            content = files.read_json(tuned)
            figures |= (curves := tuning_figures(content["groups"]))
            body.append(_tuned(content, curves))
    else:
        command = f".venv/bin/python -m experiments.{name}"
        body = [f"{NOT_MEASURED} `{command}` trains it.", markdown(claims.expected(study.claims))]
    if (folder / FULL).exists():
        lines = files.read_jsonl(folder / FULL)
        body += ["## On larger data", markdown(larger_data.table(study, lines))]
        body += [read(folder / NOTE).strip()] if (folder / NOTE).exists() else []
        body.append(larger_data.provenance(lines))
    about = (inspect.getdoc(module) or "").partition("\n\n")[2]  # without the question
    expected = study.hypothesis[:1].upper() + study.hypothesis[1:]
    head = [f"# {study.question}", f"**Hypothesis.** {expected}", "## Answer"]
    setting = about.strip("\n").replace("python -m", ".venv/bin/python -m")
    text = "\n\n".join([*head, *filter(None, body), "## Setting", setting])
    return Page(text, figures, sources_hash(root, name))


def _found(made: Summary) -> list[str]:
    """Return verdicts, findings, figures and tables as Markdown."""
    said = f"{count(made.verdicts)}. {answer(made)}"
    parts = [f"**{count(made.verdicts)}.** {answer(made)}"]
    if made.verdicts:
        parts += [f"![{said}](claims.png)", markdown(claims.table(made.verdicts))]
    advice = [
        f"{one.claim.text}: {one.verdict}; {one.advice}." for one in made.verdicts if one.advice
    ]
    parts.append("\n".join(f"- {text}" for text in (*advice, *made.findings)))
    described = sentence(made.findings[0]) if made.findings else said
    others = [name for name in made.figures if name != "claims"]
    parts += [f"![{described}]({name}.png)" for name in others]
    return parts + [markdown(table) for table in made.tables]


def answer(made: Summary) -> str:
    """Return the first two claims with what was measured; without claims, the first finding."""
    if not made.verdicts:
        return made.findings[0] if made.findings else "No findings."
    told = [
        f"{one.claim.text}: {one.interval}" + f" ({one.verdict})" * (one.verdict != "holds")
        for one in made.verdicts[:2]
    ]
    text = "; ".join(told)
    return f"{text[:1].upper()}{text[1:]}."


def count(verdicts: Sequence[claims.Verdict]) -> str:
    """Return how many claims hold: "2 of 4 claims hold, 1 is undecided"."""
    if not verdicts:
        return "No claims"
    counts = Counter(one.verdict for one in verdicts)
    holding, undecided = counts["holds"], counts["cannot tell"]
    text = f"{holding} of {len(verdicts)} claims {'holds' if holding == 1 else 'hold'}"
    return text + (f", {undecided} undecided" if undecided else "")


def sentence(text: str) -> str:
    """Return the first sentence of a text, without line breaks."""
    text = " ".join(text.split())
    found = re.match(r".+?[.!?](?= [^a-z\d]|$)", text)
    return found[0] if found else text


def markdown(table: Table) -> str:
    """Return a table as Markdown, columns of numbers to the right."""
    cells = [[str(cell).replace("|", r"\|") for cell in row] for row in (table.heads, *table.rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    columns = zip(*cells[1:], strict=True) if table.rows else ([] for _ in table.heads)
    numeric = [all(re.match(r"[-+–\d]|$", cell) for cell in column) for column in columns]
    numeric[0] = False  # names, which may be numbers
    lines.insert(1, "| " + " | ".join("--:" if right else ":--" for right in numeric) + " |")
    return f"{table.caption}\n\n" + "\n".join(lines)


def _protocol(name: str, lines: Sequence[committed.Line]) -> str:
    """Return the command, the time, and how many lines come from which environment."""
    minutes = sum(line["seconds"] for line in lines) / 60
    time = f"{minutes / 60:.1f} hours" if minutes > 90 else f"{minutes:.0f} minutes"
    mixed = results.describe_environments(lines)
    return "\n\n".join(
        [
            f"`.venv/bin/python -m experiments.{name}` left [{len(lines):,} lines of results]"
            f"({LINES}), from which this page is made. They took {time} of training in all.",
            *([f"**These are {mixed}.**"] if mixed else []),
            "\n".join(f"- {n:,} of {where}" for where, n in committed.origins(lines).items()),
        ]
    )


def _tuned(content: Mapping[str, Any], figures: Iterable[str]) -> str:
    """Return how the recipe of each point was chosen."""
    facts = {key: value for key, value in content.items() if key not in ("command", "groups")}
    return "\n\n".join(
        [
            f"`{content['command']}` chose the recipe of each point on the validation part "
            f"({', '.join(f'{key} {value}' for key, value in facts.items())}).",
            *(f"![Validation accuracy against the learning rate]({name}.png)" for name in figures),
            "*The larger white mark is the learning rate that was chosen.*",
            markdown(tuning.table(content["groups"])),
        ]
    )


def tuning_figures(groups: Mapping[str, Any]) -> dict[str, plots.Figure]:
    """Return validation accuracy against the learning rate, by the names of files.

    Groups that differ in the first part of their names share a panel, and three panels a figure.
    Of several other settings at a learning rate the best is shown.
    """
    together: dict[str, dict[str, Any]] = {}
    for group, tried in groups.items():
        first, _, rest = group.partition("/")
        together.setdefault(rest, {})[first] = tried
    labels = dict.fromkeys(first for of in together.values() for first in of)
    looks: dict[str, tuple[str, str]] = {}
    others = list(itertools.product(comparison.COLORS, comparison.MARKERS))
    for series, look in panels.looks([plots.Series(label, [1]) for label in labels]):
        of_colour = [(look[0], marker) for marker in comparison.MARKERS]
        wanted = (look, *of_colour, *others)
        looks[series.label] = next((one for one in wanted if one not in looks.values()), look)
    found = [
        plots.Curves(
            [each for label, tried in of.items() for each in _tried(label, tried, *looks[label])],
            title=rest.replace("/", ", ") or "all points",
            log="x",
            x_label="learning rate",
            y_label="validation accuracy (%)",
        )
        for rest, of in together.items()
    ]
    return {
        f"tuning-{1 + i // 3}": plots.Figure(found[i : i + 3], share_y=True, legend="below")
        for i in range(0, len(found), 3)
    }


def _tried(label: str, found: Any, color: str, marker: str) -> list[plots.Series]:
    """Return the accuracies of a group by learning rate, and those of the chosen one."""
    best: dict[float, list[float]] = {}
    for values, accuracies in found["tried"]:
        lr, scores = values["lr"], [100 * each for each in accuracies]
        best[lr] = max(best.get(lr, scores), scores, key=sum)
    rates, chosen = sorted(best), found["best"]["lr"]
    style: Any = {"color": color, "marker": marker}
    return [
        plots.Series(label, [best[lr] for lr in rates], rates, **style),
        plots.Series(label, [best[chosen]], [chosen], hollow=True, legend=False, **style),
    ]
