"""Write the page of every study, `docs/studies/NAME/index.md`.

A study is a folder below `docs/studies`. Its question, hypothesis and description are read from
`experiments/NAME.py` without running it. Its answer comes from `summary.json`, which the study
wrote into its results folder and which is copied here with the figures; where there is none, from
`measured.md`, which is kept by hand.
"""

from __future__ import annotations

import ast
import json
from pathlib import Path
from typing import Any


def source(module: Path) -> tuple[str, str, str]:
    """Return the question, the hypothesis and the docstring of a study, read from its source."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    values = {
        target.id: node.value
        for node in tree.body
        if isinstance(node, ast.Assign)
        for target in node.targets
        if isinstance(target, ast.Name)
    }
    question, hypothesis = (
        str(ast.literal_eval(values[name])) for name in ("QUESTION", "HYPOTHESIS")
    )
    return question, hypothesis, ast.get_docstring(tree) or ""


def table(caption: str, heads: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table whose first column is text and whose others are numbers."""
    cells = [[str(cell).replace("|", r"\|") for cell in row] for row in (heads, *rows)]
    lines = ["| " + " | ".join(row) + " |" for row in cells]
    lines.insert(1, "| :-- |" + " --: |" * (len(heads) - 1))
    return f"{caption}\n\n" + "\n".join(lines)


def answer(summary: dict[str, Any]) -> str:
    """Return what a study found, as Markdown: first finding, figures, others, tables, protocol."""
    first, *rest = summary["findings"] or ["No findings."]
    parts = [first]
    parts += [f"![{summary['question']}]({name}.png)" for name in summary["figures"]]
    parts += ["\n".join(f"- {finding}" for finding in rest)]
    parts += [table(t["caption"], t["heads"], t["rows"]) for t in summary["tables"]]
    environment = summary["environment"]
    commit = (environment["git"] or {}).get("commit", "unknown")[:10]
    parts.append(
        f"**How it was measured.** `.venv/bin/{summary['command']}`, {summary['seconds']:,.0f} s "
        f"on {environment['machine']}, jax {environment['versions']['jax']}, commit {commit}."
    )
    return "\n\n".join(parts)


def page(root: Path, name: str) -> str:
    """Return the page of the study `name` of the repository `root`, as Markdown."""
    question, hypothesis, text = source(root / "experiments" / f"{name}.py")
    folder = root / "docs" / "studies" / name
    summary = folder / "summary.json"
    if summary.exists():
        found = answer(json.loads(summary.read_text(encoding="utf-8")))
    else:
        found = (folder / "measured.md").read_text(encoding="utf-8")
    about = text.partition("\n\n")[2].strip("\n")  # without the summary line
    about = about.replace("python -m", ".venv/bin/python -m")
    return (
        f"# {question}\n\n**Hypothesis.** {hypothesis[:1].upper()}{hypothesis[1:]}\n\n"
        f"## Answer\n\n{found.strip()}\n\n## Setting\n\n{about}\n"
    )


def names(root: Path) -> list[str]:
    """Return the names of the studies that have a page."""
    folders = (root / "docs" / "studies").iterdir()
    return sorted(folder.name for folder in folders if folder.is_dir())


def write_pages(root: Path) -> None:
    """Write the pages of all studies of the repository `root`."""
    for name in names(root):
        path = root / "docs" / "studies" / name / "index.md"
        path.write_text(page(root, name), encoding="utf-8")
