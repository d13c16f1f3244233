"""What a study tells, for other programs to read: `story.json`, and the marks of a figure."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from cnn.train.run_dir import write_whole
from experiments.harness.report import STYLE, Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.axis import Axis
    from matplotlib.container import ErrorbarContainer
    from matplotlib.figure import Figure

FILE = "story.json"


class Mark(NamedTuple):
    """A value in a figure: where, as fractions of its width and height from the top, and what."""

    x: float
    y: float
    text: str


class Told(NamedTuple):
    """A study as `story.json` has it; `figures` are the marks by the name of the files."""

    question: str
    findings: list[str]
    tables: list[Table]
    figures: dict[str, list[Mark]]


def write(
    folder: Path,
    question: str,
    findings: Sequence[str],
    tables: Sequence[Table],
    figures: Mapping[str, Figure],
) -> None:
    """Leave `story.json` in `folder`."""
    content = {
        "question": question,
        "findings": list(findings),
        "tables": [asdict(table) for table in tables],
        "figures": {name: list(marks(figure)) for name, figure in figures.items()},
    }
    write_whole(folder / FILE, json.dumps(content, indent=1, ensure_ascii=False) + "\n")


def read(folder: Path) -> Told:
    """Return what `write` left. Raises `ValueError`, `KeyError` or `TypeError` if it is not that.

    `OSError` where there is nothing. Names of figures are file names, without a folder.
    """
    content: Any = json.loads((folder / FILE).read_text(encoding="utf-8"))
    tables = [
        Table(str(t["caption"]), _texts(t["heads"]), [_texts(row) for row in t["rows"]])
        for t in content["tables"]
    ]
    figures = {
        Path(name).name: [Mark(float(x), float(y), str(text)) for x, y, text in found]
        for name, found in content["figures"].items()
    }
    return Told(str(content["question"]), _texts(content["findings"]), tables, figures)


def _texts(values: Any) -> list[str]:
    if not isinstance(values, list):
        raise TypeError(f"{type(values).__name__} in place of a list")
    return [str(value) for value in values]


def marks(figure: Figure) -> Iterator[Mark]:
    """Yield the values that a drawn figure shows as points with error bars, lines, or cells.

    Places are those in the file that `report.save_figure` writes: cut to what is drawn.
    """
    import matplotlib as mpl

    with mpl.rc_context(STYLE):
        figure.canvas.draw()
        frame = figure.get_tightbbox().padded(mpl.rcParams["savefig.pad_inches"])
    for axes in figure.axes:
        for x, y, text in (*_points(axes), *_cells(axes)):
            across, up = axes.transData.transform((x, y)) / figure.dpi
            left, top = (across - frame.x0) / frame.width, (frame.y1 - up) / frame.height
            if 0 <= left <= 1 and 0 <= top <= 1:
                yield Mark(round(left, 4), round(top, 4), text)


def _points(axes: Axes) -> Iterator[tuple[float, float, str]]:
    from matplotlib.container import ErrorbarContainer

    owners = {c.lines[0]: c for c in axes.containers if isinstance(c, ErrorbarContainer)}
    for line in axes.lines:
        container = owners.get(line)
        name = str((container or line).get_label())
        if line.get_transform() != axes.transData or (container is None and name[0] == "_"):
            continue
        shown = "" if name.startswith("_") else f"{name}: "
        bars = _bars(container) if container else {}
        for i, (x, y) in enumerate(np.asarray(line.get_xydata(), float)):
            if np.isfinite([x, y]).all():
                at = _said(axes.xaxis, x, bars.get(0), i), _said(axes.yaxis, y, bars.get(1), i)
                yield float(x), float(y), shown + "; ".join(at)


def _bars(container: ErrorbarContainer) -> dict[int, np.ndarray]:
    """Return the ends, `(points, 2)`, of the bars along each axis, 0 or 1, that has some."""
    found = {}
    for bars in container.lines[2]:
        segments = bars.get_segments()  # empty where a value is not finite
        if any(map(len, segments)):
            axis = int(all(s[0, 0] == s[1, 0] for s in segments if len(s)))  # all stand upright
            found[axis] = np.array([s[:, axis] if len(s) else (np.nan,) * 2 for s in segments])
    return found


def _cells(axes: Axes) -> Iterator[tuple[float, float, str]]:
    for image in axes.images:
        values = np.asarray(image.get_array())
        if values.ndim == 2 and values.size <= 400:
            for (row, column), value in np.ndenumerate(values):
                at = _said(axes.xaxis, column), _said(axes.yaxis, row)
                yield column, row, "; ".join((*at, f"{axes.get_title()} {value:.4g}"))


def _said(axis: Axis, value: float, bars: np.ndarray | None = None, i: int = 0) -> str:
    """Return a coordinate with its axis label, as the tick there says it if there is one."""
    ticks = dict(zip(axis.get_majorticklocs(), axis.get_ticklabels(), strict=False))
    text = ticks[value].get_text() if value in ticks else ""
    number = text.replace("\n", " ") or f"{value:.4g}"
    said = f"{axis.get_label_text()} {number}".strip()
    if bars is None or bars[i, 0] == bars[i, 1]:
        return said
    low, high = bars[i]
    return f"{said} ({low:.4g} to {high:.4g})"
