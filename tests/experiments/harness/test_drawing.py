"""A figure is a value: its marks stand where the drawing has them and say what it shows."""

import itertools
from pathlib import Path

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from experiments.harness import drawing, panels, plots
from experiments.harness.plots import Curves, Dots, Figure, HeatMap, Interval, Intervals, Series

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
    """1 and 3 have mean 2 and deviation √2; two equal seeds have no bar; NaN does not count."""
    panel = Dots([Series("ordered", SEEDS)], ["conv", "two\nlines", "mlp"], y_label="accuracy")
    expected = ["ordered: conv; accuracy 2 (0.5858 to 3.414)", "ordered: two lines; accuracy 5"]
    assert texts(panel) == [*expected, "ordered: mlp; accuracy 1"]
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


def test_other_series_do_not_get_the_colour_of_a_rung_beside_them() -> None:
    labels = ["tiled-2", "logistic", "global", *"abcd"]
    looks = [look for _, look in panels.looks([Series(label, [1]) for label in labels])]
    assert [color for color, _ in looks[3:]] == [plots.BLACK] * 4
    assert len(set(looks)) == 7


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
    more = Dots([Series("a", [[1.0, 2, 4]])], ["x"])
    drawn, _ = drawing.draw(Figure([dots, more]))
    assert drawn.get_supxlabel() == ""  # the title of the first panel's legend says it
    drawn, _ = drawing.draw(Figure([dots, more], legend="below"))
    assert drawn.legends[0].get_title().get_text() == "mean ± s.d. of 2 to 3 seeds"
    drawn, _ = drawing.draw(Figure([dots, dots], legend="below", share_y=True))
    assert [len(legend.get_texts()) for legend in drawn.legends] == [3]


def test_the_same_figure_is_the_same_bytes(tmp_path: Path) -> None:
    figure = Figure([Dots([Series("a", SEEDS)], ["x", "y", "z"], seeds=True)])
    for name in "ab":
        drawing.save(figure, tmp_path / name)
    assert {p.name for p in tmp_path.iterdir()} == {"a.png", "a.svg", "b.png", "b.svg"}
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "b.svg").read_bytes()
    assert (tmp_path / "a.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    ("low", "high", "most", "expected"),
    [
        (0.9, 110, 9, [1, 2, 5, 10, 20, 50, 100]),
        (1, 50, 9, [1, 2, 5, 10, 20, 50]),
        (2, 7, 9, [2, 3, 4, 5, 6, 7]),
        (80, 12000, 6, [100, 1000, 10000]),
        (22, 38, 9, [24, 28, 32, 36]),
        (0.1, 0.5, 9, [0.1, 0.2, 0.3, 0.4, 0.5]),
    ],
)
def test_labels_of_a_logarithmic_axis(
    low: float, high: float, most: int, expected: list[float]
) -> None:
    np.testing.assert_allclose(panels.log_ticks(low, high, most), expected)


def test_a_logarithmic_axis_has_plain_numbers_up_to_a_million() -> None:
    series = [Series("conv", [1, 50], [100, 20000])]
    drawn, _ = drawing.draw(Figure([Curves(series, log="xy")]))
    (axes,) = drawn.axes
    assert [t.get_text() for t in axes.get_yticklabels()] == ["1", "2", "5", "10", "20", "50"]
    assert [t.get_text() for t in axes.get_xticklabels()] == ["100", "1,000", "10,000"]
    short, _ = drawing.draw(Figure([Curves([Series("conv", [22, 38])], log="y")]))
    assert not any(t.get_text() for t in short.axes[0].get_yticklabels(minor=True))
    named = Curves(series, log="xy", ticks=["few", "many"], y_limits=(1, 1e7))
    drawn, _ = drawing.draw(Figure([named]))
    assert [t.get_text() for t in drawn.axes[0].get_xticklabels()] == ["few", "many"]
    assert "$" in drawn.axes[0].get_yticklabels()[0].get_text()


ROWS = [
    Interval("sharing helps", 5, 4, 6, above=1, verdict="holds"),
    Interval(
        "locality helps by more than five points and more", 3, 2, 4, 5, verdict="does not hold"
    ),
    Interval("nothing changes", 0.5, -1, 2, -1, 1),
]
"""0, the means and the ranges are from -1 to 5; the limits are -1 - 0.42 and 6 + 0.42."""


def forest(*rows: Interval, x_limits: tuple[float | None, float | None] = (None, None)) -> Axes:
    (axes,) = drawing.draw(Figure([Intervals(rows, x_limits=x_limits)]))[0].axes
    return axes


def shades(axes: Axes) -> list[list[float]]:
    """Return left, right, top and bottom of the ranges in which the claims hold."""
    found = [box for box in axes.patches if isinstance(box, Rectangle)]
    corners = [(*box.get_xy(), box.get_width(), box.get_height()) for box in found]
    return [[x, x + width, y, y + height] for x, y, width, height in corners]


def ends(axes: Axes) -> list[tuple[float, float, str]]:
    """Return where bars end, and how."""
    marks = [line for line in axes.lines if line.get_marker() in ("|", 4, 5)]
    return [
        (float(np.ravel(m.get_xdata())[0]), float(np.ravel(m.get_ydata())[0]), str(m.get_marker()))
        for m in marks
    ]


def test_rows_of_intervals() -> None:
    """Rows of two lines and a gap of 0.8: their middles are 1.4, 4.2 and 7."""
    drawn, marks = drawing.draw(Figure([Intervals(ROWS, x_label="points")]))
    (axes,) = drawn.axes
    np.testing.assert_allclose(axes.get_yticks(), [1.4, 4.2, 7])
    assert [t.get_text() for t in axes.get_yticklabels()] == [
        "sharing helps",
        "locality helps by more than five\npoints and more",
        "nothing changes",
    ]
    np.testing.assert_allclose(axes.get_ylim(), (8.4, 0))
    np.testing.assert_allclose(axes.get_xlim(), (-1.42, 6.42))
    bars = [(x, y) for x, y, marker in ends(axes) if marker == "|"]
    np.testing.assert_allclose(bars, [(4, 1.4), (6, 1.4), (2, 4.2), (4, 4.2), (-1, 7), (2, 7)])
    expected = [[1, 6.42, 0.2, 2.6], [5, 6.42, 3, 5.4], [-1, 1, 5.8, 8.2]]
    np.testing.assert_allclose(shades(axes), expected)
    assert [text.get_text() for text in axes.texts] == [
        "holds\n+5.0 (+4.0 to +6.0)",
        "does not hold\n+3.0 (+2.0 to +4.0)",
        "cannot tell\n+0.5 (−1.0 to +2.0)",
    ]
    looks = [(line.get_color(), line.get_marker()) for line in axes.lines if line.get_zorder() == 3]
    assert looks == [(plots.GREEN, "o"), (plots.ORANGE, "s"), (plots.GREY, "o")]
    assert [text.get_color() for text in axes.texts] == [color for color, _ in looks]
    filled = [line.get_markerfacecolor() for line in axes.lines if line.get_zorder() == 3]
    assert filled == [plots.GREEN, plots.ORANGE, "white"]
    assert [mark.text for mark in marks] == [
        "sharing helps: +5.0 (+4.0 to +6.0); holds",
        "locality helps by more than five points and more: +3.0 (+2.0 to +4.0); does not hold",
        "nothing changes: +0.5 (−1.0 to +2.0); cannot tell",
    ]
    place = axes.transAxes.transform([((5 + 1.42) / 7.84, 1 - 1.4 / 8.4)])[0]
    assert (marks[0].x, 1 - marks[0].y) == pytest.approx(tuple(place / drawn.bbox.size), abs=1e-3)


def test_texts_of_intervals_are_in_the_figure_and_do_not_meet() -> None:
    drawn, _ = drawing.draw(Figure([Intervals(ROWS, x_label="points")], height=1.6))
    (axes,) = drawn.axes
    left = [label.get_window_extent() for label in axes.get_yticklabels()]
    right = [text.get_window_extent() for text in axes.texts]
    for boxes in (left, right):
        assert all(above.y0 >= below.y1 for above, below in itertools.pairwise(boxes))
    assert all(box.x0 >= 0 and box.x1 <= axes.bbox.x0 for box in left)
    assert all(box.x0 >= axes.bbox.x1 and box.x1 <= drawn.bbox.x1 for box in right)


def test_an_infinite_interval_ends_in_arrows_at_the_edges() -> None:
    """Of 0, mean and range, the limits are -0.06 · 5 and 5 + 0.06 · 5."""
    axes = forest(Interval("one seed", 5, -np.inf, np.inf, above=0))
    assert ends(axes) == [(pytest.approx(-0.3), 1.4, "4"), (pytest.approx(5.3), 1.4, "5")]
    assert axes.texts[0].get_text() == "cannot tell\n+5, no interval"


def test_a_bar_far_longer_than_the_others_is_cut() -> None:
    axes = forest(*ROWS, Interval("two seeds", 2, -60, 64, above=0))
    assert axes.get_xlim() == pytest.approx((-1.42, 6.42))
    assert [marker for *_, marker in ends(axes)[6:]] == ["4", "5"]
    axes = forest(Interval("two seeds", 2, -60, 64, above=0))  # others are not shorter
    assert axes.get_xlim() == pytest.approx((-60 - 0.06 * 124, 64 + 0.06 * 124))


def test_given_limits_cut_bars_and_ranges() -> None:
    axes = forest(ROWS[2], ROWS[1], Interval("", 1, 1, 2, -5, 9), x_limits=(0, 3))
    assert axes.get_xlim() == (0, 3)
    assert [shade[:2] for shade in shades(axes)] == [[0, 1], [5, 5], [0, 3]]
    assert [marker for *_, marker in ends(axes)] == ["4", "|", "|", "5", "|", "|"]


def test_no_number_is_said() -> None:
    row = Interval("diverged", np.nan, np.nan, np.nan, above=0)
    drawn, marks = drawing.draw(Figure([Intervals([row])]))
    assert marks == []
    assert ends(drawn.axes[0]) == []
    assert drawn.axes[0].texts[0].get_text() == "cannot tell\nno number"


def test_intervals_stand_below_each_other_by_their_rows() -> None:
    drawn, _ = drawing.draw(Figure([Intervals(ROWS), Intervals(ROWS[:1])], height=4))
    above, below = (axes.bbox for axes in drawn.axes)
    assert (above.x0, above.x1) == (below.x0, below.x1)
    assert above.y0 > below.y1
    assert above.height == pytest.approx(3 * below.height, rel=0.01)


LEVELS = (1, 3, 5, 7, 9)


@pytest.mark.parametrize(
    "panel",
    [
        Dots([Series(f"y = {y}", [y] * 30) for y in LEVELS], ["x"] * 30, y_limits=(0, 10)),
        Curves([Series(f"y = {y}", [y, y], [0, 1], marker="") for y in LEVELS], y_limits=(0, 10)),
    ],
)
def test_a_legend_with_no_room_moves_below_the_panel(panel: Dots | Curves) -> None:
    """Dots are everywhere; the ends of lines are not, but lines are."""
    drawn, _ = drawing.draw(Figure([panel]))
    (axes,) = drawn.axes
    legend, labels = axes.get_legend(), axes.xaxis.get_tightbbox()
    assert legend is not None
    assert labels is not None
    box = legend.get_window_extent()
    assert 0 <= box.y0 < box.y1 <= labels.y0
    assert labels.y0 - box.y1 < 6  # pixels
    assert 0 <= box.x0 < box.x1 <= drawn.bbox.x1
    assert len({text.get_window_extent().y0 for text in legend.get_texts()}) < len(LEVELS)
    assert drawn.get_figheight() == pytest.approx(2.6 + box.height / drawn.dpi, abs=0.05)


def test_a_legend_with_room_stays() -> None:
    panel = Curves([Series(name, [1, 1]) for name in "ab"], y_limits=(0, 10))
    drawn, _ = drawing.draw(Figure([panel]))
    legend = drawn.axes[0].get_legend()
    assert legend is not None
    assert legend.get_window_extent().y0 > drawn.axes[0].bbox.y0
    assert drawn.get_figheight() == 2.6


def test_a_seed_without_a_value_is_left_out_of_its_mark() -> None:
    dots = Dots([Series("a", [[1.0, np.nan, 3.0], [4.0, 5.0, 6.0]])], ["x", "y"])
    drawn, marks = drawing.draw(Figure([dots]))
    assert [mark.y for mark in marks] == sorted((mark.y for mark in marks), reverse=True)
    assert len(marks) == 2 and "2 (0.5858 to 3.414)" in marks[0].text
    assert drawn.get_supxlabel() == "mean ± s.d. of 2 to 3 seeds"
