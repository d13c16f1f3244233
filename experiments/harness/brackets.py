"""Brackets outside a panel, so that they hide no value and no text lies on another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from etils import epy

with epy.lazy_imports():
    from matplotlib import transforms

if TYPE_CHECKING:
    from matplotlib.axes import Axes

TIP, GAP = 3.0, 4.0
"""Length of the tips of a bracket, and distance between neighbours, in points."""


def add(axes: Axes, spans: Sequence[tuple[float, float, str]], turned: bool) -> float:
    """Draw brackets above a panel, and return the room that they take, in points.

    The shortest are nearest to the panel. The panel must already have its final limits and place
    along the axis of the spans.

    Args:
        spans: Both ends in data coordinates, and the text.
        turned: The spans are along the y axis, and the brackets are right of the panel.
    """
    axis, order = (1, -1) if turned else (0, 1)
    figure: Any = axes.figure
    point = figure.dpi / 72
    corner: Any = axes.transAxes
    outside = transforms.Affine2D().scale(1 / 72) + figure.dpi_scale_trans
    outside += transforms.ScaledTranslation(1, 1, corner)
    place = transforms.blended_transform_factory(*(axes.transData, outside)[::order])
    style: dict[str, Any] = {"size": 7, "ha": "center", "va": "bottom"}
    if turned:
        style |= {"rotation": 270, "ha": "left", "va": "center"}
    first, last = axes.bbox.get_points()[:, axis]
    levels: list[list[tuple[float, float]]] = []
    placed = []
    for *ends, said in sorted(spans, key=lambda span: abs(span[1] - span[0])):
        text = axes.text(0, 0, said, transform=place, **style)
        half = text.get_window_extent().size[axis] / 2
        low, high = sorted(axes.transData.transform([(x, x) for x in ends])[:, axis])
        middle = min(max((low + high) / 2, first + half), last - half)
        begin, end = min(low, middle - half), max(high, middle + half) + GAP * point
        free = (all(end <= a or b <= begin for a, b in level) for level in levels)
        level = next((i for i, fits in enumerate(free) if fits), len(levels))
        if level == len(levels):
            levels.append([])
        levels[level].append((begin, end))
        placed.append((level, ends, middle, text))
    offset = 0.0
    for i in range(len(levels)):
        offset += GAP + TIP
        members = [(ends, middle, text) for level, ends, middle, text in placed if level == i]
        for (a, b), middle, text in members:
            center = axes.transData.inverted().transform((middle, middle))[axis]
            text.set(**dict(zip("xy"[::order], (center, offset + 2), strict=True)))
            path = ([a, a, b, b], [offset - TIP, offset, offset, offset - TIP])[::order]
            axes.plot(*path, color="black", lw=0.8, transform=place, clip_on=False)
        offset += 2 + max(text.get_window_extent().size[1 - axis] for *_, text in members) / point
    return offset
