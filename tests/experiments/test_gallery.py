"""The page of all results."""

import re
from pathlib import Path

import pytest

from cnn.errors import InputError
from experiments import gallery
from experiments.harness import plots, summary


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
