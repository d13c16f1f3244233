"""Tables and figures: what they hold is what they were given."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure

from experiments.harness.report import Table, percent, save_figure, write_report

TABLE = Table(
    "a <caption>", ["rung", "accuracy"], [["conv", "94.0 ± 0.5"], ["<mlp>", "68.0 ± 1.0"]]
)


def test_percent_is_mean_and_sample_deviation() -> None:
    """0.5, 0.7 and 0.9 have mean 0.7 and deviation sqrt(0.08 / 2) = 0.2."""
    assert percent(np.array([0.5, 0.7, 0.9])) == "70.00 ± 20.00"
    assert percent(np.array([0.5])) == "50.00"


def test_table_in_three_forms(capsys: pytest.CaptureFixture[str]) -> None:
    TABLE.show()
    shown = capsys.readouterr().out
    assert "94.0 ± 0.5" in shown
    assert TABLE.to_markdown().splitlines()[1:3] == ["| :-- | --: |", "| conv | 94.0 ± 0.5 |"]
    assert "<td>&lt;mlp&gt;</td><td>68.0 ± 1.0</td>" in TABLE.to_html()


def test_figure_and_page_stand_by_themselves(tmp_path: Path) -> None:
    figure = Figure()
    figure.add_subplot().plot([1, 2], [3, 4])
    svg = save_figure(figure, tmp_path / "f")
    assert svg.startswith("<svg")
    write_report(tmp_path / "r.html", "Why?", ["Because <so>."], [TABLE], [svg], seconds=12.3)
    page = (tmp_path / "r.html").read_text()
    for part in ("<h1>Why?</h1>", "Because &lt;so&gt;.", svg, "94.0 ± 0.5", "12 s", "jax "):
        assert part in page
    assert "<script" not in page
    assert {p.name for p in tmp_path.iterdir()} == {"f.png", "f.svg", "r.html"}


def test_the_same_figure_is_the_same_bytes(tmp_path: Path) -> None:
    def draw(name: str) -> str:
        figure = Figure()
        figure.add_subplot().scatter([1, 2], [3, 4])
        return save_figure(figure, tmp_path / name)

    assert draw("a") == draw("b")
