"""The page of all results, and what it is made from."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from matplotlib.figure import Figure

from cnn.errors import InputError
from experiments import gallery
from experiments.harness import summary
from experiments.harness.report import Table, save_figure

TABLE = Table("a <b>", ["rung", "%"], [["<conv>", "94"]])


def figure() -> Figure:
    """Return a figure whose axes fill it exactly, with frame but nothing written."""
    made = Figure(figsize=(4, 2))
    axes = made.add_axes((0, 0, 1, 1), xlim=(0, 10), ylim=(0, 10), xticks=[], yticks=[])
    axes.errorbar([2, 5], [3, 5], [1, 0], label="conv", fmt="o")
    axes.plot([9], [9])  # no label, no mark
    return made


def study(folder: Path, question: str = "Why <so>?") -> None:
    folder.mkdir(parents=True)
    save_figure(figure(), folder / "f")
    findings = ["Hypothesis: none.", "It is <i>so</i>.", "More."]
    summary.write(folder, question, findings, [TABLE], {"f": figure()})


def test_marks_are_where_the_picture_has_them() -> None:
    """The page is 4 by 2 inches and 0.1 of white around; (2, 3) is at 0.8 and 1.4 from the top."""
    first, second = summary.marks(figure())
    assert first[2] == "conv: 2; 3 (2 to 4)"
    assert second[2] == "conv: 5; 5"
    assert first[:2] == pytest.approx((0.9 / 4.2, 1.5 / 2.2), abs=0.01)
    assert second[:2] == pytest.approx((0.5, 0.5), abs=0.01)


def test_a_value_that_is_not_finite_has_no_mark() -> None:
    made = Figure()
    axes = made.add_subplot(xticks=[], yticks=[])
    axes.errorbar([1, float("nan"), 3], [1, 2, 3], xerr=[0.5, 1, 0], label="dense", fmt="o")
    assert [m.text for m in summary.marks(made)] == ["dense: 1 (0.5 to 1.5); 1", "dense: 3; 3"]


def test_cells_and_named_ticks_say_what_they_are() -> None:
    made = Figure()
    axes = made.add_subplot(title="error", xlabel="period")
    axes.imshow([[1.0, 2.5]])
    axes.set_xticks([0, 1], ["one", "all"])
    axes.set_yticks([0], ["near"])
    assert [m.text for m in summary.marks(made)] == [
        "period one; near; error 1",
        "period all; near; error 2.5",
    ]


def test_a_story_is_read_as_it_was_written(tmp_path: Path) -> None:
    study(tmp_path / "a")
    told = summary.read(tmp_path / "a")
    assert told.question == "Why <so>?"
    assert told.tables == [TABLE]
    assert told.figures == {"f": list(summary.marks(figure()))}


def test_page_shows_what_is_told_and_one_line_for_the_rest(tmp_path: Path) -> None:
    results = tmp_path / "results"
    study(results / "good")
    study(results / "good" / "smoke")
    study(results / "evil", "</script><script>alert(1)</script>")
    for name, content in {
        "cut": '{"question": "<b>',
        "other": "[1, 2]",
        "lists": '{"question": "q", "findings": 3, "tables": [], "figures": {}}',
        "away": '{"question": "q", "findings": [], "tables": [], "figures": {"../../f": []}}',
    }.items():
        (results / name).mkdir()
        (results / name / "story.json").write_text(content)
    (results / "running").mkdir()
    (results / "running" / "results.jsonl").write_text('{"key": 1}\n{"key": 2}\n')

    gallery.main(gallery.Gallery(results=results, out=tmp_path / "g.html"))

    page = (tmp_path / "g.html").read_text()
    assert page.count("<article") == 2
    for part in ("Why &lt;so&gt;?", "class=answer>It is &lt;i&gt;so&lt;/i&gt;.", "&lt;conv&gt;"):
        assert part in page
    assert "Hypothesis: none." in page
    assert page.count("<script") == 1
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page)
    rest = dict(re.findall(r"<li><b>(\w+)</b> (.*?)</li>", page))
    assert rest.keys() == {"cut", "other", "lists", "away", "running"}
    assert rest["running"] == "not told yet: summary.json missing, 2 results"
    assert rest["away"].startswith("not told yet: f.svg missing")
    assert rest["cut"].startswith("cannot be read: JSONDecodeError")
    marks = re.findall(r"data-marks='(.*?)'", page)[0].replace("&quot;", '"')
    assert json.loads(marks)[0][2] == "conv: 2; 3 (2 to 4)"


def test_nothing_to_show_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no study: run one"):
        gallery.main(gallery.Gallery(results=tmp_path, out=tmp_path / "g.html"))
    assert not any(tmp_path.iterdir())
