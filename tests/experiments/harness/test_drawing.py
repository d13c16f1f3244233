"""A figure is a value: its marks stand where the drawing has them and say what it shows."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from experiments.harness import drawing, panels, plots
from experiments.harness.plots import Curves, Dots, Figure, HeatMap, Series

SEEDS = [np.array([1.0, 3.0]), np.array([5.0, 5.0]), np.array([np.nan, 1.0])]


def texts(panel: plots.Panel) -> list[str]:
    return [mark.text for mark in drawing.draw(Figure([panel]))[1]]


def test_marks_stand_where_the_drawing_has_them() -> None:
    """Found in the pixels: the only thing drawn in pure red is the marker."""
    series = Series("a", [3.0], [7.0], color="#ff0000", line="")
    drawn, marks = drawing.draw(Figure([Curves([series], x_limits=(0, 10), y_limits=(0, 10))]))
    canvas = FigureCanvasAgg(drawn)
    canvas.draw()
    pixels = np.asarray(canvas.buffer_rgba())
    red = (pixels[..., 0] > 250) & (pixels[..., 1:3] < 5).all(-1)
    rows, columns = np.nonzero(red)
    height, width = red.shape
    assert marks[0][:2] == pytest.approx((columns.mean() / width, rows.mean() / height), abs=0.005)


def test_dots_show_mean_and_deviation_of_every_finite_value() -> None:
    """1 and 3 have mean 2 and deviation √2; two equal seeds have no bar."""
    panel = Dots([Series("ordered", SEEDS)], ["conv", "two\nlines", "mlp"], y_label="accuracy")
    expected = ["ordered: conv; accuracy 2 (0.5858 to 3.414)", "ordered: two lines; accuracy 5"]
    assert texts(panel) == expected
    across = Dots([Series("", SEEDS)], ["conv", "b", "c"], horizontal=True, x_label="accuracy")
    assert texts(across)[0] == "conv; accuracy 2 (0.5858 to 3.414)"


def test_curves_name_their_ticks_and_are_geometric_on_a_log_axis() -> None:
    series = Series("conv", [np.array([1.0, 4.0]), np.array([2.0, 2.0])], [10, 20])
    panel = Curves([series], ticks=["ten", "twenty"], x_label="n", y_label="y")
    assert texts(panel) == ["conv: n ten; y 2.5 (0.3787 to 4.621)", "conv: n twenty; y 2"]
    assert texts(Curves([series], log="y", y_label="y"))[0] == "conv: 10; y 2 (1 to 4)"


def test_cells_of_a_heat_map() -> None:
    panel = HeatMap([[1.0, 2.5]], ["near"], ["one", "all"], title="error", x_label="period")
    assert texts(panel) == ["period one;  near; error 1", "period all;  near; error 2.5"]


def test_colours_follow_labels() -> None:
    series = [Series(name, [1]) for name in ("conv", "tiled-2", "up", "dense, λ = 1", "up, moved")]
    looks = [
        look for _, look in panels.looks([*series, Series("down", [1], color="red", marker="x")])
    ]
    black, amber = plots.OTHERS[:2]
    rungs = plots.RUNGS
    expected = [rungs["conv"], rungs["tiled"], black, rungs["dense"], black, ("red", "x")]
    assert looks == expected
    assert panels.looks([series[2], Series("down", [1])])[1][1] == amber


def test_the_legend_says_what_is_shown() -> None:
    dots = Dots([Series("a", SEEDS[:2], reference=[1, None]), Series("b", SEEDS[:2])], ["x", "y"])
    drawn, _ = drawing.draw(Figure([dots]))
    legend = drawn.axes[0].get_legend()
    assert legend is not None
    assert [text.get_text() for text in legend.get_texts()] == ["a", "b", "published"]
    assert legend.get_title().get_text() == "mean ± s.d. of 2 seeds"
    curves = Curves([Series("a", SEEDS[:2]), Series("b", [1, 2], legend=False)])
    drawn, _ = drawing.draw(Figure([curves], note="dashed: b"))
    assert drawn.get_supxlabel() == "dashed: b; mean ± s.d. of 2 seeds"
    drawn, _ = drawing.draw(Figure([dots, dots], legend="below", share_y=True))
    assert [len(legend.get_texts()) for legend in drawn.legends] == [3]


def test_the_same_figure_is_the_same_bytes(tmp_path: Path) -> None:
    figure = Figure([Dots([Series("a", SEEDS)], ["x", "y", "z"], seeds=True)])
    for name in "ab":
        drawing.save(figure, tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a.svg", "b.png", "b.svg"}
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")
