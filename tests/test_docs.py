"""What the documents name is there."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
MAP = (ROOT / "docs" / "map.md").read_text(encoding="utf-8")


def test_every_test_on_the_map_exists() -> None:
    code = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("*.py"))
    defined = set(re.findall(r"^def (test_\w+)\(", code, re.MULTILINE))
    named = set(re.findall(r"`(test_\w+)`", MAP))
    assert len(named) > 40
    assert named <= defined, named - defined


def test_every_function_on_the_map_exists() -> None:
    for name in set(re.findall(r"`(cnn(?:\.\w+)+)`", MAP)):
        package, _, last = name.rpartition(".")
        found = hasattr(importlib.import_module(package), last)
        assert found or importlib.import_module(name), name


def test_every_study_on_the_map_exists() -> None:
    studies = re.findall(
        r"`(\w+)`", " ".join(row.split("|")[-2] for row in MAP.splitlines() if "|" in row)
    )
    assert studies
    assert all((ROOT / "experiments" / f"{study}.py").exists() for study in studies)


def test_every_file_that_the_readme_links_exists() -> None:
    for name in ("README.md", "CONTRIBUTING.md"):
        links = re.findall(r"\]\((?!http)([^)#]+)", (ROOT / name).read_text(encoding="utf-8"))
        assert all((ROOT / link).exists() for link in links), name
