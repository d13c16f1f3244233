"""Two pages of the documentation run in a Jupyter kernel, and show tables instead of arrays."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from nbclient import NotebookClient
from nbformat.v4 import new_code_cell, new_notebook

DOCS = Path(__file__).parents[1] / "docs"


def run(page: str, folder: Path) -> list[list[dict[str, Any]]]:
    """Return the outputs of each cell of a page, with few steps."""
    text = (DOCS / f"{page}.md").read_text(encoding="utf-8")
    text, count = re.subn(r"(\bsteps(?:: int = |\": ))\d+", r"\g<1>20", text)
    assert count
    cells = re.findall(r"^```\{code-cell\} python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    notebook = new_notebook(cells=[new_code_cell(cell) for cell in cells])
    where = {"metadata": {"path": str(folder)}}
    NotebookClient(notebook, timeout=300, kernel_name="python3", resources=where).execute()
    return [cell.outputs for cell in notebook.cells]


def shown(outputs: list[list[dict[str, Any]]], kind: str) -> str:
    """Return what was shown as this type, from one cell after another."""
    return "\n".join(o["data"].get(kind, "") for cell in outputs for o in cell if "data" in o)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # not the user's settings
    monkeypatch.delenv("MPLBACKEND", raising=False)
    return tmp_path


@pytest.mark.slow  # building the documentation executes the pages, too
def test_the_page_of_an_own_question(folder: Path) -> None:
    outputs = run("own_question", folder)
    page = shown(outputs, "text/html")
    assert page.count("wide_window: 60 of 60 steps in") == 2  # three points, then three more seeds
    assert page.count("wide_window: 40 of 40 steps in") == 1  # two points are there already
    assert page.count("<img") == 3
    assert "window 9" in page and "pooling maximum" in page
    assert "array(" not in page + shown(outputs, "text/plain")
    assert "┃" not in str(outputs)  # tables are not printed besides
    assert (folder / "results" / "wide_window" / "report.html").exists()


@pytest.mark.slow
def test_the_page_of_a_run_in_python(folder: Path) -> None:
    outputs = run("a_run_in_python", folder)
    page = shown(outputs, "text/html")
    assert page.count("20 of 20 steps in") == 3
    parts = ["1,438 training", "mean ± s.d.", "validation_accuracy", "step 20", "layers_2"]
    for part in parts:  # data, result, rows, run, description
        assert part in page
    assert "image/png" in outputs[-2][-1]["data"]
    assert "array(" not in page + shown(outputs, "text/plain")
    assert float(outputs[-1][0]["data"]["text/plain"]) < 1e-5
