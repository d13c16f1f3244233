"""What is written of a page, and what its hashes notice."""

import sys
from pathlib import Path

import pytest

from experiments.harness import page_files, pages, plots
from tests.experiments.harness import tiny


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with the page of one study."""
    monkeypatch.setitem(sys.modules, "experiments.ladder", tiny.module())
    folder = tmp_path / "docs/studies/ladder"
    tiny.write(folder / "results.jsonl", tiny.lines())
    pages.make(tmp_path, "ladder").write(folder)
    return tmp_path


def test_what_is_written_is_current(root: Path) -> None:
    folder = root / "docs/studies/ladder"
    names = {"index.md", "ladder.png", "claims.png", "results.jsonl"}
    assert {path.name for path in folder.iterdir()} == names
    assert page_files.stale(root, "ladder") == []
    assert pages.make(root, "ladder").differing(folder) == []


def test_a_changed_line_is_noticed(root: Path) -> None:
    folder = root / "docs/studies/ladder"
    first, *rest = tiny.lines()
    tiny.write(folder / "results.jsonl", [first | {"test_accuracy": 0.5}, *rest])
    assert page_files.stale(root, "ladder") == [
        "index.md was made from other lines, or by another program"
    ]
    changed = [folder / name for name in ("index.md", "claims.png", "ladder.png")]
    assert pages.make(root, "ladder").differing(folder) == changed


def test_a_line_that_changes_only_the_text_is_noticed(root: Path) -> None:
    folder = root / "docs/studies/ladder"
    first, *rest = tiny.lines()
    tiny.write(folder / "results.jsonl", [first | {"commit": "other"}, *rest])
    assert pages.make(root, "ladder").differing(folder) == [folder / "index.md"]


def test_a_page_that_was_changed_by_hand_is_noticed(root: Path) -> None:
    page = root / "docs/studies/ladder/index.md"
    page.write_text(page.read_text().replace("10.0 points", "11.0 points"))
    assert page_files.stale(root, "ladder") == ["index.md was changed by hand"]
    page.write_text(page.read_text().partition("\n\n<!--")[0])
    assert page_files.stale(root, "ladder") == ["index.md is missing or was cut"]
    assert pages.make(root, "ladder").differing(page.parent) == [page]


def test_another_drawing_is_noticed(root: Path) -> None:
    folder = root / "docs/studies/ladder"
    other = plots.Figure([plots.Dots([plots.Series("", [1.0])], ["conv"])])
    page_files.Page("", {"ladder": other}, "").write(folder / "..")
    (folder / "../ladder.png").replace(folder / "ladder.png")
    assert page_files.stale(root, "ladder") == ["ladder.png shows other values"]
    assert pages.make(root, "ladder").differing(folder) == [folder / "ladder.png"]
    (folder / "ladder.png").unlink()
    assert page_files.stale(root, "ladder") == ["ladder.png shows other values"]


def test_a_changed_program_or_tuned_recipe_is_noticed(root: Path) -> None:
    (root / "experiments/tuned").mkdir(parents=True)
    for file in ("experiments/ladder.py", "experiments/tuned/ladder.json"):
        (root / file).write_text("1")
        assert page_files.stale(root, "ladder")
        (root / file).unlink()
        assert not page_files.stale(root, "ladder")


def test_the_hash_of_a_figure_ignores_rounding_and_nothing_else() -> None:
    def hashed(value: float, label: str = "a") -> str:
        return page_files.values_hash(plots.Figure([plots.Curves([plots.Series(label, [value])])]))

    assert hashed(0.1 + 0.2) == hashed(0.3)
    assert len({hashed(0.3), hashed(0.3001), hashed(0.3, "b"), hashed(float("nan"))}) == 4
