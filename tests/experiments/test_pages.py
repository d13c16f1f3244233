"""The program that makes all pages: what it writes, and what it refuses."""

import re
import sys
from pathlib import Path

import pytest

from cnn.errors import InputError, RunError
from experiments import pages
from experiments.harness import committed, page_files
from experiments.pages import Flags
from tests.experiments.harness import tiny

START, END = "<!-- made by python -m experiments.pages: {} -->", "<!-- end -->"


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a repository with the lines of one study, a study without lines, and a README."""
    monkeypatch.setitem(sys.modules, "experiments.ladder", tiny.module())
    monkeypatch.setitem(sys.modules, "experiments.idle", tiny.module())
    root = tmp_path / "root"
    tiny.write(root / "docs/studies/ladder/results.jsonl", tiny.lines())
    (root / "docs/studies/idle").mkdir()
    blocks = [f"{START.format(name)}\n\nx\n\n{END}" for name in ("ladder", "studies")]
    listed = "\n".join(f"| [{name}](docs/studies/{name}/index.md) |" for name in ("ladder", "idle"))
    rows = blocks[1].replace("\n\nx\n\n", f"\n\n{listed}\n\n")
    (root / "README.md").write_text(f"# By hand\n\n{blocks[0]}\n\nMore.\n{rows}\n\nLast.\n")
    (root / "docs/studies/index.md").write_text(f"# Studies\n\n{blocks[1]}\n")
    return root


def test_the_readme_shows_the_ladder_and_the_answers_of_its_studies(root: Path) -> None:
    pages.main(Flags(), root)
    readme = (root / "README.md").read_text()
    before, _, rest = readme.partition(START.format("ladder"))
    ladder, _, rest = rest.partition(END)
    between, _, rest = rest.partition(START.format("studies"))
    studies, _, after = rest.partition(END)
    assert (before, between, after) == ("# By hand\n\n", "\n\nMore.\n", "\n\nLast.\n")
    assert ladder == (
        "\n\n| rung | ordered, % |\n| :-- | --: |\n| `conv`: local, shared | 91.00 ± 1.41 |\n"
        "| `local`: one kernel per position | 81.00 ± 1.41 |\n\nTest accuracy in percent.\n\n"
        "**1 of 1 claims holds.**\n\n"
        "- Sharing is worth 10.0 points. It is\nso in 95 % of cases.\n- More.\n\n"
    )
    rows = [
        "| study | question | answer | claims |",
        "| :-- | :-- | :-- | :-- |",
        "| [ladder](docs/studies/ladder/index.md) | Is sharing worth anything? "
        "| Sharing helps: +10.0 points (+10.0 to +10.0). | 1 of 1 holds |",
        "| [idle](docs/studies/idle/index.md) | Is sharing worth anything? "
        "| `.venv/bin/python -m experiments.idle` trains it. | Not measured yet |",
    ]
    assert studies.strip().split("\n") == rows
    index = (root / "docs/studies/index.md").read_text()
    assert "\n".join(rows).replace("docs/studies/", "") in index
    assert "```{toctree}\n:hidden:\n\nladder/index\nidle/index\n```" in index


def test_a_study_that_the_readme_does_not_name_is_in_the_index_alone(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "experiments.new", tiny.module())
    (root / "experiments").mkdir()
    (root / "experiments/new.py").write_text('QUESTION = "Is it?"\n')
    (root / "experiments/train.py").write_text("")
    pages.main(Flags(), root)
    assert "**Not measured yet.**" in (root / "docs/studies/new/index.md").read_text()
    assert "[new]" not in (root / "README.md").read_text()
    row = "| [new](new/index.md) | Is sharing worth anything? | `"
    assert row in (root / "docs/studies/index.md").read_text()
    pages.main(Flags(check=True), root)


def test_the_order_of_the_readme_stays(root: Path) -> None:
    pages.main(Flags(), root)
    readme = root / "README.md"
    *_, ladder, old = [x for x in readme.read_text().split("\n") if x.startswith("| [")]
    text = readme.read_text().replace(f"{ladder}\n{old}", f"{old}\n{ladder}")
    readme.write_text(text)
    pages.main(Flags(only=("idle",)), root)
    assert readme.read_text() == text
    assert "idle/index\nladder/index" in (root / "docs/studies/index.md").read_text()


def test_check_writes_nothing_and_names_what_differs(
    root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pages.main(Flags(), root)
    pages.main(Flags(check=True), root)
    capsys.readouterr()
    first, *rest = tiny.lines()
    tiny.write(root / "docs/studies/ladder/results.jsonl", [first | {"test_accuracy": 0.5}, *rest])
    before = {path: path.read_bytes() for path in root.rglob("*.*")}
    with pytest.raises(RunError, match=r"5 files differ: python -m experiments.pages makes them"):
        pages.main(Flags(check=True), root)
    assert capsys.readouterr().out == (
        "docs/studies/ladder/index.md is not what its lines say\n"
        "docs/studies/ladder/claims.png is not what its lines say\n"
        "docs/studies/ladder/ladder.png is not what its lines say\n"
        "README.md is not what its lines say\n"
        "docs/studies/index.md is not what its lines say\n"
    )
    assert {path: path.read_bytes() for path in root.rglob("*.*")} == before


def test_results_are_taken(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which lines are taken is tested with the harness; here, where they are and go."""
    results = tmp_path / "results/ladder/results.jsonl"
    newer = [line | {"test_accuracy": 0.5} for line in tiny.lines()]
    tiny.write(results, newer)
    asked = []

    def take(study: object, settings: object, paths: list[Path]) -> list[dict[str, object]]:
        asked.extend(paths)
        return newer

    monkeypatch.setattr(committed, "take", take)
    pages.main(Flags(), root)
    pages.main(Flags(take=tmp_path / "results"), root)
    lines = root / "docs/studies/ladder/results.jsonl"
    assert asked == [lines, results]
    assert lines.read_text() == results.read_text()
    assert "Sharing is worth 0.0 points" in (root / "docs/studies/ladder/index.md").read_text()


def test_lines_of_a_larger_data_set_are_taken(root: Path, tmp_path: Path) -> None:
    """By hand: 90 and 92, and 80 and 82; the line of 92 is replaced by one of 94."""
    about = {"parameters": 3, "environment": {}, "commit": "abc"}
    about |= {"config": {"data": "large", "steps": 2, "recipe": {"lr": 0.5}}}
    lines = [line | about for line in tiny.lines()]
    pages.main(Flags(), root)
    for new in (lines, [lines[1] | {"test_accuracy": 0.94}]):
        tiny.write(tmp_path / "results/ladder/full/results.jsonl", new)
        pages.main(Flags(take=tmp_path / "results"), root)
    text = (root / "docs/studies/ladder/index.md").read_text()
    assert "| conv/ordered | large | 3 | 2 | 0.5 | 2 | 92.00 ± 2.83 |" in text
    assert "| local/ordered | large | 3 | 2 | 0.5 | 2 | 81.00 ± 1.41 |" in text
    (root / "docs/studies/ladder/full.txt").write_text("Its images are a lossy copy.\n")
    assert page_files.stale(root, "ladder")
    pages.main(Flags(), root)
    text = (root / "docs/studies/ladder/index.md").read_text()
    assert "± 1.41 |\n\nIts images are a lossy copy.\n\nFrom [4 lines]" in text


def test_the_results_of_a_new_study_are_taken(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A folder of results that is named like no program is none of a study."""
    monkeypatch.setitem(sys.modules, "experiments.fresh", tiny.module())
    monkeypatch.setattr(committed, "take", lambda study, settings, paths: tiny.lines())
    (root / "experiments").mkdir()
    (root / "experiments/fresh.py").touch()
    for name in ("fresh", "other"):
        tiny.write(tmp_path / "results" / name / "results.jsonl", tiny.lines())
    pages.main(Flags(), root)
    pages.main(Flags(take=tmp_path / "results"), root)
    index = (root / "docs/studies/index.md").read_text()
    assert "| [fresh](fresh/index.md) | Is sharing worth anything? | Sh" in index
    assert not (root / "docs/studies/other").exists()


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (Flags(only=("ladder",)), "only: the page of idle is missing, so make it, too"),
        (Flags(only=("lader",)), "unknown study 'lader'.*ladder"),
        (Flags(take=Path("results"), check=True), "take copies lines, and check writes nothing"),
        (Flags(take=Path("nowhere")), "take 'nowhere' must hold NAME/results.jsonl of a study"),
    ],
    ids=range(4),
)
def test_wrong_arguments_are_one_line(root: Path, flags: Flags, said: str) -> None:
    with pytest.raises(InputError, match=said):
        pages.main(flags, root)


def test_a_missing_line_or_marker_is_one_line_and_nothing_is_written(root: Path) -> None:
    readme = root / "README.md"
    readme.write_text(readme.read_text().replace(END, ""))
    with pytest.raises(InputError, match=r"README\.md must have the lines <!-- made by"):
        pages.main(Flags(), root)
    tiny.write(root / "docs/studies/ladder/results.jsonl", tiny.lines()[1:])
    with pytest.raises(InputError, match="no line of point conv/ordered, seed 0"):
        pages.main(Flags(), root)
    assert not list(root.rglob("*.png")) and not (root / "docs/studies/idle/index.md").exists()


@pytest.mark.slow
def test_a_study_that_was_trained_has_its_page(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From training to the page: all that training leaves is what the page needs."""
    best = ("best", "ordered")
    pages.main(Flags(), root)
    made = tiny.module(best_of=lambda settings, names: {best: [tiny.CONV, tiny.LOCAL]})
    monkeypatch.setitem(sys.modules, "experiments.ladder", made)
    summary = made.STUDY.run(tiny.Settings(out=tmp_path / "results/ladder"))
    pages.main(Flags(take=tmp_path / "results"), root)
    page = (root / "docs/studies/ladder/index.md").read_text()
    assert summary.findings[0] in page
    assert f"| {summary.verdicts[0].interval} | {summary.verdicts[0].verdict} |" in page
    assert summary.notes[0] in page
    assert "[8 lines of results]" in page  # two points, two seeds, two parts
    assert len(re.findall("^- 8 of jax .*, commit ", page, re.MULTILINE)) == 1
