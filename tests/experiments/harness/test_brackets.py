"""Brackets start and end at their values, and neither they nor their texts meet."""

import itertools

import numpy as np
import pytest
from matplotlib.axes import Axes
from matplotlib.figure import Figure as Drawn
from matplotlib.transforms import Bbox

from experiments.harness import drawing
from experiments.harness.plots import Bracket, Dots, Figure, Series

RUNGS = ["conv", "tiled-2", "tiled-4", "local", "dense", "mlp", "logistic"]
SERIES = [Series("ordered", [94, 92, 91, 89, 75, 68, 32]), Series("permuted", [56] * 7)]
BRACKETS = [
    Bracket(0, 6, "conv − logistic"),
    Bracket(0, 3, "sharing +5.0 (4.1 to 5.9)"),
    Bracket(3, 4, "locality +14.1 (12.8 to 15.4)"),
    Bracket(4, 5, "depth +7.0 (5.0 to 9.0)"),
    Bracket(0, 4, "both −1.0 (−2.0 to 0.1)", 1),
    Bracket(5, 6, "a text at the edge of the panel"),
    Bracket(1, 1, "order +36", (0, 1)),
]
ENDS = [(-0.12, 5.88), (-0.12, 2.88), (2.88, 3.88), (3.88, 4.88), (0.12, 4.12), (4.88, 5.88)]
ENDS += [(0.88, 1.12)]
"""With two series 0.24 apart."""


def draw(panels: int = 1, turned: bool = False, height: float = 4) -> Drawn:
    panel = Dots(SERIES, RUNGS, brackets=BRACKETS, horizontal=turned, legend="below", title="T")
    return drawing.draw(Figure([panel] * panels, height=height))[0]


def boxes(axes: Axes, turned: bool = False) -> list[tuple[Bbox, Bbox]]:
    """Return where the line and the text of each bracket are."""
    texts = {text.get_text(): text.get_window_extent() for text in axes.texts}
    lines = {}
    for line in axes.lines:
        along = np.asarray(line.get_ydata() if turned else line.get_xdata())
        if len(along) == 4:
            lines[tuple(along.round(6))] = line.get_window_extent()
    return [
        (lines[a, a, b, b], texts[bracket.text])
        for (a, b), bracket in zip(ENDS, BRACKETS, strict=True)
    ]


@pytest.mark.parametrize("turned", [False, True])
@pytest.mark.parametrize("panels", [1, 2])
def test_no_two_meet(panels: int, turned: bool) -> None:
    drawn = draw(panels, turned)
    for axes in drawn.axes:
        found = boxes(axes, turned)
        every = [box for pair in found for box in pair]
        assert not any(a.overlaps(b) for a, b in itertools.combinations(every, 2))
        outside = [box.x0 > axes.bbox.x1 if turned else box.y0 > axes.bbox.y1 for box in every]
        assert all(outside)
        axis = int(turned)
        texts = [text.get_points()[:, axis] for _, text in found]
        first, last = axes.bbox.get_points()[:, axis]
        assert all(first - 1 <= low and high <= last + 1 for low, high in texts)
        inside = [drawn.bbox.x0 <= b.x0 and b.x1 <= drawn.bbox.x1 for b in every]
        inside += [drawn.bbox.y0 <= b.y0 and b.y1 <= drawn.bbox.y1 for b in every]
        assert all(inside)
        assert not any(axes.title.get_window_extent().overlaps(box) for box in every)


def test_text_is_next_to_its_bracket_and_short_ones_are_nearest() -> None:
    (axes,) = draw().axes
    found = boxes(axes)
    for line, text in found:
        assert 0 < text.y0 - line.y1 < 4  # points of 1 pixel at least
        assert text.x0 < line.x1
        assert line.x0 < text.x1
    lowest = min(line.y0 for line, _ in found)
    assert found[-1][0].y0 == lowest
    assert max(found, key=lambda pair: pair[0].y0) == found[0]


def test_ends_are_at_the_values_when_the_figure_has_been_laid_out() -> None:
    (axes,) = draw().axes
    dots = axes.transData.transform([(-0.12, 94), (2.88, 89)])[:, 0]
    line, _ = boxes(axes)[1]
    width = 0.8 * axes.figure.dpi / 72
    assert (line.x0 + width / 2, line.x1 - width / 2) == pytest.approx(tuple(dots), abs=1)


def test_brackets_above_make_the_figure_higher() -> None:
    panel = Dots(SERIES, RUNGS, legend="")
    without, _ = drawing.draw(Figure([panel]))
    with_one, _ = drawing.draw(Figure([Dots(SERIES, RUNGS, legend="", brackets=BRACKETS[:1])]))
    heights = [drawn.axes[0].bbox.height for drawn in (without, with_one)]
    assert heights[1] == pytest.approx(heights[0], abs=6)
    assert with_one.get_figheight() > without.get_figheight() + 0.15
