"""The documentation names what exists, its numbers are those of the code, and its examples run."""

from __future__ import annotations

import importlib
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from cnn import models
from cnn.errors import InputError
from cnn.geometry import Geometry, describe
from experiments import pages
from experiments.harness import page_files
from experiments.harness import pages as harness_pages

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
STUDIES = sorted(
    path.stem
    for path in (ROOT / "experiments").glob("*.py")
    if re.search(r"^QUESTION = ", path.read_text(encoding="utf-8"), re.MULTILINE)
)
MEASURED = [name for name in STUDIES if (DOCS / "studies" / name / "results.jsonl").exists()]


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


LECTURES = text("docs/lecture_map.md")


def test_every_test_in_the_lecture_map_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", code, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", LECTURES))
    assert len(named) > 60
    assert named <= defined, named - defined


@pytest.mark.parametrize("name", sorted(set(re.findall(r"`(cnn(?:\.\w+)+)`", LECTURES))))
def test_every_function_in_the_lecture_map_exists(name: str) -> None:
    package, _, last = name.rpartition(".")
    assert hasattr(importlib.import_module(package), last) or importlib.import_module(name)


def test_every_study_in_the_lecture_map_exists() -> None:
    rows = [line.split("|") for line in LECTURES.splitlines() if line.startswith("|")]
    named = set(re.findall(r"`(\w+)`", " ".join(row[-2] for row in rows)))
    assert len(named) > 10
    assert named <= set(STUDIES), named - set(STUDIES)


def test_every_row_of_the_lecture_map_has_a_function_and_a_test() -> None:
    rows = [line for line in LECTURES.splitlines() if line.startswith("| ")]
    rows = [row for row in rows if not row.startswith("| idea |")]
    assert len(rows) > 50
    assert not [row for row in rows if "`cnn." not in row or "`test_" not in row]


def test_every_study_has_a_page_and_a_line_in_the_index() -> None:
    assert harness_pages.names(ROOT) == STUDIES
    index = text("docs/studies/index.md")
    listed = re.findall(r"^\| \[\w+\]\((\w+)/index\.md\)", index, re.MULTILINE)
    assert sorted(listed) == STUDIES


def test_the_readme_has_studies_that_were_measured() -> None:
    listed = re.findall(pages.LINK, text("README.md"), re.MULTILINE)
    assert len(listed) > 9
    for name in listed:
        assert harness_pages.NOT_MEASURED not in text(f"docs/studies/{name}/index.md")


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_of_a_study_is_made_from_its_lines(name: str) -> None:
    """By hashes: `make pages` makes it again. The slow test below computes everything."""
    assert page_files.stale(ROOT, name) == []


def test_the_readme_shows_what_the_pages_say() -> None:
    texts = {name: text(f"docs/studies/{name}/index.md") for name in STUDIES}
    for path, made in pages.with_blocks(ROOT, texts).items():
        assert path.read_text(encoding="utf-8") == made, "run make pages"


KEYS = """
import importlib, json, sys
from experiments.harness import results
for name in sys.argv[1:]:
    module = importlib.import_module(f"experiments.{name}")
    study, settings = module.STUDY, module.Settings()
    points = study.configs(settings)
    both = points, study.held_out(settings, points)
    print(json.dumps(sorted({k for of in both for k in results.keys(of, study.measure).values()})))
"""


@pytest.mark.slow
def test_committed_lines_are_of_the_programs_that_the_code_has_now() -> None:
    """A key is the hash of initialization, training, evaluation, data, recipe and seed.

    The data of some studies are computed, so this needs the implementations that users have.
    """
    ours = ("CNN_IMPLEMENTATION", "XLA_FLAGS")
    env = {name: value for name, value in os.environ.items() if name not in ours}
    program = [sys.executable, "-c", KEYS, *MEASURED]
    printed = subprocess.run(
        program, env=env, cwd=ROOT, capture_output=True, timeout=600, check=True
    )
    for name, keys in zip(MEASURED, printed.stdout.splitlines(), strict=True):
        lines = text(f"docs/studies/{name}/results.jsonl").splitlines()
        assert sorted({json.loads(line)["key"] for line in lines}) == json.loads(keys), name


@pytest.mark.slow
def test_every_page_says_what_its_lines_say() -> None:
    pages.main(pages.Flags(check=True))


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_of_a_study_shows_figures_that_exist(name: str) -> None:
    page = text(f"docs/studies/{name}/index.md")
    figures = re.findall(r"!\[[^]]+\]\(([^)]+)\)", page)
    assert figures or harness_pages.NOT_MEASURED in page
    assert all((DOCS / "studies" / name / figure).exists() for figure in figures)
    assert f".venv/bin/python -m experiments.{name}" in page


ROWS = re.findall(
    r"^\| `(\w+)` \| ([\d×]+) \| ([\d,]+) \| ([\d,]+) \| ([\d,]+) \| (\S+) \|$",
    text("docs/networks.md"),
    re.MULTILINE,
)


def test_every_network_is_in_the_table() -> None:
    assert sorted(row[0] for row in ROWS) == models.names()


@pytest.mark.parametrize(
    "row",
    [pytest.param(r, marks=[pytest.mark.slow] * (r[0] in ("googlenet", "xception"))) for r in ROWS],
    ids=lambda row: row[0],
)
def test_the_table_of_networks_is_what_describe_says(row: tuple[str, ...]) -> None:
    name, shape, classes, *numbers = row
    model = models.by_name(name)(num_classes=int(classes.replace(",", "")))
    size = tuple(map(int, shape.split("×")))
    try:
        found: Geometry | SimpleNamespace = describe(model, size)
    except InputError:
        assert name == "xception"  # its shortcuts do not look at the place of its branches
        found = describe(model, size, aligned=False)
    field = "×".join(f"{n:,}" for n in found.receptive_field) if found.local else "all"
    assert numbers == [f"{found.params:,}", f"{found.macs:,}", field]


PAGES = [
    "README.md",
    "CONTRIBUTING.md",
    "CHANGELOG.md",
    *(f"docs/{p.name}" for p in DOCS.glob("*.md")),
]


@pytest.mark.parametrize("page", PAGES)
def test_every_file_that_a_page_links_exists(page: str) -> None:
    links = re.findall(r"\]\((?!https?:|#)([^)#]+)", text(page))
    missing = [link for link in links if not (ROOT / page).parent.joinpath(link).exists()]
    assert not missing


@pytest.mark.parametrize("page", PAGES)
def test_every_command_names_a_program_that_exists(page: str) -> None:
    named = re.findall(r"-m ((?:experiments|benchmarks)\.[a-z_.0-9]*[a-z0-9])\b", text(page))
    made = {
        f"experiments.{name}" for name in re.findall(r"experiments\.new ([a-z]\w*)", text(page))
    }
    paths = {name: ROOT / f"{name.replace('.', '/')}.py" for name in {*named} - made}
    missing = [name for name, path in paths.items() if not path.exists()]
    assert not missing
    targets = set(re.findall(r"^    make ([\w-]+)", text(page), re.MULTILINE))
    assert targets <= set(re.findall(r"^([\w-]+):", text("Makefile"), re.MULTILINE))


def test_commands_work_without_activating_anything() -> None:
    for page in PAGES:
        lines = re.findall(r"^    (python.*)", text(page), re.MULTILINE)
        assert not lines, f"{page}: {lines}"


def test_the_examples_of_the_readme_run() -> None:
    """Those of the other pages run when the documentation is built."""
    blocks = re.findall(r"^```python\n(.*?)^```", text("README.md"), re.DOTALL | re.MULTILINE)
    assert len(blocks) == 4
    code = re.sub(r"(steps|seeds)=\d+", r"\1=1", "\n".join(blocks))  # as little as tells
    exec(compile(code, "README.md", "exec"), {})
