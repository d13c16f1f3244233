"""What a study leaves: one JSON file, drawings, and a page that needs no other file."""

import json
import re
from pathlib import Path

import pytest

from cnn.errors import RunError
from experiments.harness import plots, summary
from experiments.harness.summary import Summary
from experiments.harness.tables import Table

PANEL = plots.Dots([plots.Series("conv", [3.0])], ["all"], y_label="%")
MADE = Summary(
    ["It is <i>so</i>.", "More."],
    [Table("a <b>", ["rung", "%"], [["<conv>", "94"]])],
    {"f": plots.Figure([PANEL])},
)


def test_what_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "accuracy.svg").mkdir()
    figure = plots.Figure([plots.Dots([plots.Series("a", [[1.0, 2.0]])], categories=["x"])])
    made = Summary(["found"], [], {"accuracy": figure})
    with pytest.raises(RunError, match=r"accuracy\.svg cannot be written \(Is a directory\): make"):
        summary.write(tmp_path, "Q?", "it is.", made, 1.0)
    assert not list(tmp_path.glob(".*"))


def test_a_study_leaves_its_summary_and_a_page(tmp_path: Path) -> None:
    summary.write(tmp_path, "Why <so>?", "none.", MADE, seconds=12.3)
    assert {p.name for p in tmp_path.iterdir()} == {"summary.json", "report.html", "f.png", "f.svg"}
    content = json.loads((tmp_path / "summary.json").read_text())
    assert (content["question"], content["hypothesis"]) == ("Why <so>?", "none.")
    assert content["findings"] == MADE.findings
    assert content["tables"][0]["rows"] == [["<conv>", "94"]]
    assert content["figures"]["f"]["panels"][0]["series"][0]["values"] == [3.0]
    assert content["figures"]["f"]["marks"][0][2] == "conv: all; % 3"
    assert content["seconds"] == 12.3
    assert "jax" in content["environment"]["versions"]

    page = (tmp_path / "report.html").read_text()
    for part in (
        "Why &lt;so&gt;?",
        "Hypothesis: none.",
        "class=answer>It is &lt;i&gt;so&lt;/i&gt;.",
        "&lt;conv&gt;",
        "12 s",
        "jax ",
        "<details open>",
    ):
        assert part in page
    assert page.count("<script") == 1
    assert not re.search(r"(src|href)=['\"]?(https?:)?//", page)
    marks = re.findall(r"data-marks='(.*?)'", page)[0].replace("&quot;", '"')
    assert json.loads(marks)[0][2] == "conv: all; % 3"


def test_a_summary_shows_in_notebooks() -> None:
    shown = MADE._repr_html_()
    assert "<p>It is &lt;i&gt;so&lt;/i&gt;.</p><p>More.</p>" in shown
    assert "&lt;conv&gt;" in shown and "<conv>" not in shown
    assert shown.count("src='data:image/png;base64,iVBOR") == 1  # how a PNG begins
    assert repr(MADE) == "It is <i>so</i>.\nMore."
    assert repr(MADE.figures["f"]) == "<Figure: Dots>"
