"""The page of all results."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn.errors import InputError
from experiments import gallery
from experiments.harness import plots, summary
from tests.mutations import mutated


def study(folder: Path, question: str = "Why <so>?") -> None:
    folder.mkdir(parents=True)
    figure = plots.Figure([plots.Dots([plots.Series("conv", [3.0])], ["all"])])
    made = summary.Summary(["It is <i>so</i>."], [], {"f": figure})
    summary.write(folder, question, "none.", made, seconds=1)


def test_page_shows_each_study_and_one_line_for_the_rest(tmp_path: Path) -> None:
    results = tmp_path / "results"
    study(results / "good")
    study(results / "good" / "smoke")
    study(results / "evil", "</script><script>alert(1)</script>")
    for name, content in {
        "cut": '{"question": "<b>',
        "other": "[1, 2]",
        "lists": '{"question": "q", "findings": 3, "tables": [], "figures": {}}',
        "away": '{"tables": [], "figures": {"../good/f": {"marks": [], "width": 3}}}',
    }.items():
        (results / name).mkdir()
        (results / name / "summary.json").write_text(content)
    (results / "running").mkdir()
    (results / "running" / "results.jsonl").write_text('{"key": 1}\n{"key": 2}\n')

    gallery.main(gallery.Gallery(results=results, out=tmp_path / "g.html"))

    page = (tmp_path / "g.html").read_text()
    assert page.count("<article") == 2
    for part in ("Why &lt;so&gt;?", "class=answer>It is &lt;i&gt;so&lt;/i&gt;.", "none."):
        assert part in page
    assert page.count("<script") == 1
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page)
    rest = dict(re.findall(r"<li><b>(\w+)</b> ([^<]*)", page))
    assert rest.keys() == {"cut", "other", "lists", "away", "running"}
    assert rest["running"] == "unfinished: no summary.json, 2 results"
    assert rest["away"] == "unfinished: no f.svg, 0 results"
    assert rest["cut"].startswith("cannot be read: JSONDecodeError")


def test_nothing_to_show_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study: run one"):
        gallery.main(gallery.Gallery(results=tmp_path, out=tmp_path / "g.html"))
    assert not any(tmp_path.iterdir())


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("results")
    study(folder / "a")
    study(folder / "good", "Why not?")
    return folder


@pytest.fixture(scope="module")
def content(results: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((results / "a" / "summary.json").read_text())
    return found


def page_with(results: Path, text: str) -> str:
    (results / "a" / "summary.json").write_text(text)
    gallery.main(gallery.Gallery(results=results, out=results / "g.html"))
    return (results / "g.html").read_text()


@given(data=st.data())
def test_a_mutated_summary_is_shown_or_named(
    data: st.DataObject, results: Path, content: dict[str, Any]
) -> None:
    page = page_with(results, json.dumps(data.draw(mutated(content))))
    assert "Why not?" in page
    assert page.count("<article") + page.count("<li><b>a</b> cannot be read: ") == 2


@pytest.mark.parametrize(
    ("change", "shown"),
    [
        ("[" * 100_000, "<li><b>a</b> cannot be read: ValueError: JSON is nested too deeply</ul>"),
        ({"seconds": 10**400}, "<li><b>a</b> cannot be read: OverflowError"),
        ({"question": "Why \ud800?"}, "Why \\ud800?"),
    ],
    ids=range(3),
)
def test_a_hostile_summary_does_not_hide_the_others(
    change: str | dict[str, Any], shown: str, results: Path, content: dict[str, Any]
) -> None:
    page = page_with(results, change if isinstance(change, str) else json.dumps(content | change))
    assert shown in page
    assert "Why not?" in page
