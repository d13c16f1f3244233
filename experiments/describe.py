"""Everything that can be known of a network before any data.

    python -m experiments.describe --model vgg16 --input 224 224 3
    python -m experiments.describe --model vgg16 --input 224 224 3 --compare googlenet \\
        --out results/geometry

Prints shapes, parameters, multiply-accumulates, memory and receptive fields by layer; with
`--compare` the layers that differ. `--out` writes the tables as Markdown and JSON, and three
figures: how the receptive field grows (`growth`), where on the input it lies and which part of it
has most of the weight if all weights are equal (`map`), and what the layers cost (`costs`).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments.harness import cli, plots
from experiments.harness.plots import Curves, Reference, Series

with epy.lazy_imports():
    import matplotlib as mpl
    import numpy as np
    from matplotlib import figure as mpl_figure
    from matplotlib import patches
    from rich import console as rich_console

    from cnn import geometry, models
    from cnn.train import run_dir

if TYPE_CHECKING:
    from flax import linen as nn
    from matplotlib.axes import Axes

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
    """Print the table; write tables and figures to `flags.out` if it is given."""
    names = [flags.model] if flags.compare is None else [flags.model, flags.compare]
    built = {name: models.by_name(name)() for name in names}
    found = {name: _describe(name, model, flags.input) for name, model in built.items()}
    shown = found[names[0]] if len(names) == 1 else geometry.pair(*(found[n] for n in names))
    table = shown.to_rich(f"{' → '.join(names)} on {'×'.join(map(str, flags.input))}")
    width = rich_console.Console(width=1000).measure(table).maximum
    rich_console.Console(width=max(rich_console.Console().width, width)).print(table)
    if flags.out is None:
        return

    run_dir.make_folder(flags.out)
    for name, described in found.items():
        run_dir.write_atomic(flags.out / f"{name}.json", described.to_json() + "\n")
        run_dir.write_atomic(flags.out / f"{name}.md", described.to_markdown() + "\n")
    if flags.compare is not None:
        run_dir.write_atomic(flags.out / "comparison.md", shown.to_markdown() + "\n")
    densities = {name: geometry.uniform_field(m, flags.input) for name, m in built.items()}
    plots.save(growth(found), flags.out / "growth")
    plots.save(costs(found), flags.out / "costs")
    if len(flags.input) == 2:
        plots.save(map_of_signal(found, densities), flags.out / "map")
    else:
        plots.save_drawing(draw_map(found, densities), flags.out / "map")
    print(f"written to {flags.out}", file=sys.stderr)


def _describe(name: str, model: nn.Module, input_shape: tuple[int, ...]) -> Geometry:
    """Describe the model; if branches are not aligned, warn and use the union of their fields."""
    try:
        return geometry.describe(model, input_shape)
    except geometry.MisalignedError as error:
        print(f"warning: {name}, {error}", file=sys.stderr)
        return geometry.describe(model, input_shape, check_alignment=False)


def growth(found: dict[str, Geometry]) -> plots.Figure:
    """Return the receptive field of the layers outside of branches, in their order."""
    series = []
    for i, (name, described) in enumerate(found.items()):
        fields = _trunk(described)
        sizes = [1, *(max(field.size) for field in fields)]
        strides = [1, *(max(field.stride) for field in fields)]
        jumps = [i for i in range(1, len(sizes)) if strides[i] > strides[i - 1]]
        color = (plots.BLUE, plots.ORANGE)[i]
        style = {"color": color, "line": "", "marker": "s", "hollow": True, "legend": i == 0}
        series.append(Series(name, sizes, color=color, marker="o"))
        series.append(Series("stride grows", [sizes[j] for j in jumps], jumps, **style))
    size = max(next(iter(found.values())).input_shape[:-1])
    panel = Curves(
        series,
        x_label="layers that widen the field",
        y_label="receptive field (pixels)",
        y_limits=(0, None),
        references=[Reference(y=size, label="input", line="--")],
    )
    return plots.Figure([panel], height=2.2)


def _trunk(described: Geometry) -> list[Field]:
    """Return the fields, each wider than the last, of the layers that are not in a branch."""
    inside = {"body", "shortcut"}
    fields = [
        layer.field
        for layer in described.local
        if layer.field
        and not any(p in inside or p.startswith("branches_") for p in layer.name.split("/"))
    ]
    return list(dict.fromkeys(fields))


def costs(found: dict[str, Geometry]) -> plots.Figure:
    """Return parameters against MACs, a mark per layer, with lines of equal use of a weight."""
    series = []
    for i, (name, described) in enumerate(found.items()):
        for local in (True, False):
            layers = [x for x in described.layers if (x.field is not None) == local]
            layers = [x for x in layers if x.macs and x.params]
            series.append(
                Series(
                    f"{name}, {'local' if local else 'sees all positions'}",
                    [x.params for x in layers],
                    [x.macs for x in layers],
                    line="",
                    color=(plots.BLUE, plots.ORANGE)[i],
                    marker="o" if local else "s",
                    hollow=not local,
                )
            )
    x_limits = _decades([x for one in series for x in one.x])
    y_limits = _decades([y for one in series for y in one.values])
    for uses, line in ((1, "-"), (100, "--"), (10_000, ":")):
        weights = [end / uses for end in x_limits]
        label = f"each weight used {uses:,}×"
        series.append(Series(label, weights, x_limits, line=line, color=plots.GREY, marker=""))
    panel = Curves(
        series,
        log="xy",
        x_label="multiply-accumulates",
        y_label="parameters",
        x_limits=x_limits,
        y_limits=y_limits,
    )
    return plots.Figure([panel], height=3.4, legend="below")


def _decades(values: Sequence[float]) -> tuple[float, float]:
    """Return the powers of ten around positive values."""
    low, high = math.log10(min(values, default=1)), math.log10(max(values, default=1))
    return 10.0 ** math.floor(low), 10.0 ** (math.floor(high) + 1)


EFFECTIVE = "effective field, ± 2 s.d."


def map_of_signal(found: dict[str, Geometry], densities: dict[str, np.ndarray]) -> plots.Figure:
    """Return the weight of each sample for the middle unit of the last local map."""
    panels = []
    for name, described in found.items():
        density = densities[name]
        ((left, right),), (deviation,) = seen(described), geometry.spread(density)
        mean = float(density @ np.arange(len(density)))
        panels.append(
            Curves(
                [Series("weight of a sample", density, color=plots.GREY, marker="")],
                title=f"{name}: {described.receptive_field[0]}",
                x_label="sample",
                y_label="share of the weight",
                y_limits=(0, None),
                references=[
                    Reference(
                        x=(left - 0.5, right + 0.5), label="receptive field", color=plots.ORANGE
                    ),
                    Reference(x=mean - 2 * deviation, line="--", color=plots.BLUE),
                    Reference(x=mean + 2 * deviation, line="--", color=plots.BLUE, label=EFFECTIVE),
                ],
            )
        )
    return plots.Figure(panels, height=3.2, legend="below")


def draw_map(found: dict[str, Geometry], densities: dict[str, np.ndarray]) -> mpl_figure.Figure:
    """Draw on the input the field of the middle unit, and the effective field inside it.

    Of inputs with three axes, the last two.
    """
    with mpl.rc_context(plots.STYLE):
        size = plots.COLUMN_WIDTH, 3.4 if len(found) == 1 else 2.4
        drawn = mpl_figure.Figure(size, layout="constrained")
        panels = drawn.subplots(1, len(found), squeeze=False)[0]
        for axes, (name, described) in zip(panels, found.items(), strict=True):
            _draw_plane(axes, described, densities[name])
            axes.set_title(f"{name}: {'×'.join(map(str, described.receptive_field))}")
        drawn.legend(*panels[0].get_legend_handles_labels(), loc="outside lower center", ncols=2)
    return drawn


def _draw_plane(axes: Axes, described: Geometry, density: np.ndarray) -> None:
    weight = density.sum(tuple(range(density.ndim - 2)))
    height, width = weight.shape
    (top, bottom), (left, right) = seen(described)[-2:]
    down, across = geometry.spread(weight)
    middle = weight.sum(0) @ np.arange(width), weight.sum(1) @ np.arange(height)
    axes.imshow(weight / weight.max(), cmap="Greys", vmax=1.3, interpolation="nearest")

    def box(x: float, y: float, w: float, h: float, color: str, label: str) -> None:
        rectangle = patches.Rectangle((x, y), w, h, fill=False, ec=color, lw=1.2, label=label)
        axes.add_patch(rectangle)

    box(-0.5, -0.5, width, height, plots.GREY, "input")
    box(left - 0.5, top - 0.5, right - left + 1, bottom - top + 1, plots.ORANGE, "receptive field")
    size = 4 * across, 4 * down
    ellipse = patches.Ellipse(
        middle, *size, fill=False, ec=plots.BLUE, lw=1.2, ls="--", label=EFFECTIVE
    )
    axes.add_patch(ellipse)
    axes.add_patch(patches.Rectangle((0, 0), 0, 0, fc="#888888", label="weight of a pixel"))
    margin = 0.03 * max(height, width)
    axes.set_xlim(min(left, 0) - margin, max(right, width) + margin)
    axes.set_ylim(max(bottom, height) + margin, min(top, 0) - margin)
    axes.set_xlabel("pixel")
    axes.locator_params(nbins=4)


def seen(described: Geometry) -> tuple[tuple[int, int], ...]:
    """Return the first and last pixel per axis in the field of the last local map's middle unit."""
    shape = described.local[-1].shape if described.local else described.input_shape
    return described.field.of([n // 2 for n in shape[:-1]])


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
