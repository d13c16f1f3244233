"""What a study leaves: one JSON file, drawings, and a page that needs no other file."""

import json
import re
from pathlib import Path

from experiments.harness import plots, summary
from experiments.harness.summary import Summary
from experiments.harness.tables import Table

PANEL = plots.Dots([plots.Series("conv", [3.0])], ["all"], y_label="%")
MADE = Summary(
    ["It is <i>so</i>.", "More."],
    [Table("a <b>", ["rung", "%"], [["<conv>", "94"]])],
    {"f": plots.Figure([PANEL])},
)


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
