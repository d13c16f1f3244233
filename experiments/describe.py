"""Everything that can be known of a network before any data.

    python -m experiments.describe --model vgg16 --input 224 224 3
    python -m experiments.describe --model vgg16 --input 224 224 3 --compare googlenet \\
        --out results/geometry

Prints shapes, parameters, multiply-accumulates, memory and receptive fields by layer; with
`--compare` the layers that differ. `--out` leaves the tables as Markdown and JSON, and three
pictures: how the receptive field grows (`growth`), where on the input it lies and how little of it
counts, with all weights alike (`map`), and what the layers cost (`costs`).
"""

from __future__ import annotations

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.harness import cli

if TYPE_CHECKING:
    import numpy as np
    from flax import linen as nn
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from cnn.geometry import Field, Geometry


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Networks by name, and the shape of their input."""

    model: str
    """Network: a function of cnn.models, e.g. vgg16."""
    input: tuple[int, ...]
    """Shape of one example, channels last, e.g. 224 224 3."""
    compare: str | None = None
    """A second network, to be shown beside the first."""
    out: Path | None = None
    """Folder for tables and pictures; nothing is written if not given."""


def main(flags: Flags) -> None:
    """Print the table; write tables and pictures to `flags.out` if it is given."""
    from rich.console import Console

    from cnn import models
    from cnn.geometry import pair, uniform_field

    names = [flags.model] if flags.compare is None else [flags.model, flags.compare]
    built = {name: models.by_name(name)() for name in names}
    found = {name: _described(name, model, flags.input) for name, model in built.items()}
    shown = found[flags.model] if flags.compare is None else pair(*(found[n] for n in names))
    table = shown.to_rich(f"{' → '.join(names)} on {'×'.join(map(str, flags.input))}")
    wide = Console(width=1000).measure(table).maximum  # never cut a number off
    Console(width=max(Console().width, wide)).print(table)
    if flags.out is None:
        return

    from cnn.train.run_dir import make_folder, write_atomic
    from experiments.harness.report import save_figure

    make_folder(flags.out)
    for name, geometry in found.items():
        write_atomic(flags.out / f"{name}.json", geometry.to_json() + "\n")
        write_atomic(flags.out / f"{name}.md", geometry.to_markdown() + "\n")
    if flags.compare is not None:
        write_atomic(flags.out / "comparison.md", shown.to_markdown() + "\n")
    densities = {name: uniform_field(model, flags.input) for name, model in built.items()}
    save_figure(draw_growth(found), flags.out / "growth")
    save_figure(draw_map(found, densities), flags.out / "map")
    save_figure(draw_costs(found), flags.out / "costs")
    print(f"written to {flags.out}", file=sys.stderr)


def _described(name: str, model: nn.Module, input_shape: tuple[int, ...]) -> Geometry:
    """Describe the model; where branches are not aligned, say so and go on with their union."""
    from cnn.geometry import MisalignedError, describe

    try:
        return describe(model, input_shape)
    except MisalignedError as error:
        print(f"warning: {name}, {error}", file=sys.stderr)
        return describe(model, input_shape, check_alignment=False)


def draw_growth(found: dict[str, Geometry]) -> Figure:
    """Draw the field of the layers through which everything passes, in their order."""
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import MaxNLocator

    from experiments.harness.report import BLUE, COLUMN_WIDTH, GREY, ORANGE, STYLE

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_WIDTH, 2.2))
        axes = figure.add_subplot()
        for (name, geometry), colour in zip(found.items(), (BLUE, ORANGE), strict=False):
            steps = _trunk(geometry)
            sizes = [1, *(max(field.size) for field in steps)]
            strides = [1, *(max(field.stride) for field in steps)]
            axes.plot(sizes, "-", color=colour, lw=1)
            jumps = [i for i in range(1, len(sizes)) if strides[i] > strides[i - 1]]
            rest = [i for i in range(len(sizes)) if i not in jumps]
            axes.plot(rest, [sizes[i] for i in rest], "o", ms=2.5, color=colour, label=name)
            axes.plot(jumps, [sizes[i] for i in jumps], "s", ms=4.5, mfc="white", color=colour)
        axes.plot([], [], "s", ms=4.5, mfc="white", color=GREY, label="stride grows")
        input_size = max(next(iter(found.values())).input_shape[:-1])
        axes.axhline(input_size, color=GREY, lw=0.8, ls="--")
        axes.annotate("input", (0, input_size), (0, 2), textcoords="offset points", color=GREY)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.set_xlabel("layers that widen the field")
        axes.set_ylabel("receptive field (pixels)")
        axes.set_ylim(0)
        axes.legend(frameon=False)
    return figure


def _trunk(geometry: Geometry) -> list[Field]:
    """Return the fields, each wider than the last, of the layers that stand in no branch."""
    inside = {"body", "shortcut"}
    fields = [
        layer.field
        for layer in geometry.local
        if layer.field
        and not any(p in inside or p.startswith("branches_") for p in layer.name.split("/"))
    ]
    return list(dict.fromkeys(fields))


def draw_map(found: dict[str, Geometry], densities: dict[str, np.ndarray]) -> Figure:
    """Draw on the input the field of the unit in the middle, and the effective one inside it.

    Of inputs with three axes, the last two.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import COLUMN_WIDTH, STYLE

    with mpl.rc_context(STYLE):
        height = 3.4 if len(found) == 1 else 2.4
        figure = Figure(figsize=(COLUMN_WIDTH, height), layout="constrained")
        panels = figure.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, geometry) in zip(panels, found.items(), strict=True):
            draw = _draw_line if densities[name].ndim == 1 else _draw_plane
            draw(axes, geometry, densities[name])
            axes.set_title(f"{name}: {'×'.join(map(str, geometry.receptive_field))}")
        handles, labels = panels[0].get_legend_handles_labels()
        figure.legend(handles, labels, frameon=False, loc="outside lower center", ncols=2)
    return figure


def _draw_plane(axes: Axes, geometry: Geometry, density: np.ndarray) -> None:
    import numpy as np
    from matplotlib.patches import Ellipse, Rectangle

    from cnn.geometry import spread
    from experiments.harness.report import BLUE, GREY, ORANGE

    weight = density.sum(tuple(range(density.ndim - 2)))
    height, width = weight.shape
    (top, bottom), (left, right) = seen(geometry)[-2:]
    down, across = spread(weight)
    middle = weight.sum(0) @ np.arange(width), weight.sum(1) @ np.arange(height)
    axes.imshow(weight / weight.max(), cmap="Greys", vmax=1.3, interpolation="nearest")
    axes.add_patch(
        Rectangle((-0.5, -0.5), width, height, fill=False, ec=GREY, lw=0.8, label="input")
    )
    field = (left - 0.5, top - 0.5), right - left + 1, bottom - top + 1
    axes.add_patch(Rectangle(*field, fill=False, ec=ORANGE, lw=1.2, label="receptive field"))
    two = "effective field, ± 2 s.d."
    axes.add_patch(
        Ellipse(middle, 4 * across, 4 * down, fill=False, ec=BLUE, lw=1.2, ls="--", label=two)
    )
    axes.add_patch(Rectangle((0, 0), 0, 0, fc="#888888", label="weight of a pixel"))
    margin = 0.03 * max(height, width)
    axes.set_xlim(min(left, 0) - margin, max(right, width) + margin)
    axes.set_ylim(max(bottom, height) + margin, min(top, 0) - margin)
    axes.set_xlabel("pixel")
    axes.locator_params(nbins=4)


def _draw_line(axes: Axes, geometry: Geometry, density: np.ndarray) -> None:
    import numpy as np

    from cnn.geometry import spread
    from experiments.harness.report import BLUE, GREY, ORANGE

    ((left, right),), (deviation,) = seen(geometry), spread(density)
    mean = float(density @ np.arange(len(density)))
    axes.fill_between(
        np.arange(len(density)),
        density,
        step="mid",
        color="#888888",
        lw=0,
        label="weight of a pixel",
    )
    axes.axvspan(left - 0.5, right + 0.5, fill=False, ec=ORANGE, lw=1.2, label="receptive field")
    for side in (-2, 2):
        label = "effective field, ± 2 s.d." if side > 0 else None
        axes.axvline(mean + side * deviation, color=BLUE, lw=1.2, ls="--", label=label)
    axes.axvspan(-0.5, len(density) - 0.5, fill=False, ec=GREY, lw=0.8, label="input")
    axes.set_ylim(0)
    axes.set_xlabel("sample")
    axes.set_ylabel("share of the weight")


def seen(geometry: Geometry) -> tuple[tuple[int, int], ...]:
    """Return the first and last pixel, per axis, of the middle unit of the last local map."""
    shape = geometry.local[-1].shape if geometry.local else geometry.input_shape
    return geometry.field.of([n // 2 for n in shape[:-1]])


def draw_costs(found: dict[str, Geometry]) -> Figure:
    """Draw parameters against MACs, a mark per layer; on a diagonal lies equal use of a weight."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    from experiments.harness.report import BLUE, COLUMN_WIDTH, GREY, ORANGE, STYLE

    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(COLUMN_WIDTH, 2.8), layout="constrained")
        axes = figure.add_subplot()
        axes.set_xscale("log")
        axes.set_yscale("log")
        for (name, geometry), colour in zip(found.items(), (BLUE, ORANGE), strict=False):
            for local, marker, fill in ((True, "o", colour), (False, "s", "white")):
                each = [x for x in geometry.layers if x.macs and (x.field is not None) == local]
                macs, params = [x.macs for x in each], [x.params for x in each]
                label = f"{name}, {'local' if local else 'sees all positions'}"
                axes.plot(macs, params, marker, ms=3.5, color=colour, mfc=fill, label=label)
        low, high = _decades(axes.get_xlim())
        bottom, top = _decades(axes.get_ylim())
        for uses in (1, 100, 10_000):
            label = "weights used 1×, 100×, 10,000×" if uses == 1 else ""
            line = [low, high], [low / uses, high / uses]
            axes.plot(*line, color=GREY, lw=0.6, ls=":", zorder=0, label=label)
            at = (high, high / uses) if high / uses < top else (top * uses, top)
            if at[0] > low and at[1] > bottom:
                axes.text(*at, f"{uses:,}×  ", fontsize=6, color=GREY, ha="right", va="bottom")
        axes.set_xlim(low, high)
        axes.set_ylim(bottom, top)
        axes.set_xlabel("multiply-accumulates")
        axes.set_ylabel("parameters")
        figure.legend(frameon=False, loc="outside lower center", ncols=len(found))
    return figure


def _decades(limits: tuple[float, float]) -> tuple[float, float]:
    """Widen the limits of a logarithmic axis to powers of ten."""
    low, high = (math.log10(limit) for limit in limits)
    return 10 ** math.floor(low), 10 ** math.ceil(high)


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
