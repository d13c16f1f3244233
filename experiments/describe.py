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
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from etils import epy

from experiments.harness import cli, drawing, networks, plots, tables
from experiments.harness.plots import Curves, Reference, Series

with epy.lazy_imports():
    import numpy as np
    from flax import linen as nn

    from cnn import geometry
    from cnn.geometry import receptive_field
    from cnn.train import files, run_dir

if TYPE_CHECKING:
    from cnn.geometry import Field, Geometry


COLORS = (plots.BLUE, plots.ORANGE)


@dataclass(frozen=True, kw_only=True)
class Flags:
    """Networks by name, and the shape of their input."""

    model: str = ""
    """Network: a function of cnn.models, e.g. vgg16, or package.module:function for a Linen module
    of your own. Needed, unless `spec` is given."""
    input: tuple[int, ...]
    """Shape of one example, channels last, e.g. 224 224 3."""
    model_args: tuple[str, ...] = ()
    """Arguments of the model's function, NAME=VALUE: width=32 norm=group."""
    spec: Path | None = None
    """JSON file with a model's value, in place of `model`: a run.json, or its part "model"."""
    ablate: tuple[str, ...] = ()
    """Ablations of the model, one after another: unshare, tile:2, localize:1:where=0."""
    compare: str | None = None
    """A second network, to be shown beside the first."""
    out: Path | None = None
    """Folder for tables and pictures; nothing is written if not given."""


def main(flags: Flags) -> None:
    """Print the table; write tables and figures to `flags.out` if it is given."""
    name = " ".join([flags.model or str(flags.spec), *flags.ablate])
    build = networks.by_name(flags.model, flags.model_args, flags.spec, flags.ablate)
    built = {name: build(None)}
    if flags.compare is not None:
        built[flags.compare] = networks.by_name(flags.compare)(None)
    names = list(built)
    found = {name: _describe(name, model, flags.input) for name, model in built.items()}
    shown = found[names[0]] if len(names) == 1 else geometry.pair(*(found[n] for n in names))
    table = shown.to_rich(f"{' → '.join(names)} on {'×'.join(map(str, flags.input))}")
    tables.print_whole(table)
    if flags.out is None:
        return

    run_dir.make_folder(flags.out)
    for name, described in found.items():
        file = re.sub(r"[^\w.-]", ".", name)
        files.write_atomic(flags.out / f"{file}.json", described.to_json() + "\n")
        files.write_atomic(flags.out / f"{file}.md", described.to_markdown() + "\n")
    if flags.compare is not None:
        files.write_atomic(flags.out / "comparison.md", shown.to_markdown() + "\n")
    densities = {name: geometry.uniform_field(m, flags.input) for name, m in built.items()}
    drawing.save(growth(found), flags.out / "growth")
    drawing.save(costs(found), flags.out / "costs")
    drawing.save(field_map(found, densities), flags.out / "map")
    print(f"written to {flags.out}", file=sys.stderr)


def _describe(name: str, model: nn.Module, input_shape: tuple[int, ...]) -> Geometry:
    """Describe the model; if branches are not aligned, warn and use the union of their fields."""
    try:
        return geometry.describe(model, input_shape)
    except geometry.MisalignedError as error:
        print(f"warning: {name}, {error}", file=sys.stderr)
        return geometry.describe(model, input_shape, aligned=False)


def growth(found: dict[str, Geometry]) -> plots.Figure:
    """Return the receptive field of the layers that widen it, in their order."""
    series = []
    for (name, described), color in zip(found.items(), COLORS, strict=False):
        fields = _widening(described)
        sizes = [1, *(max(field.size) for field in fields)]
        strides = [1, *(max(field.stride) for field in fields)]
        jumps = [i for i in range(1, len(sizes)) if strides[i] > strides[i - 1]]
        at_jumps = [sizes[i] for i in jumps]
        label = f"{name}, stride grows"
        series += [
            Series(name, sizes, color=color, marker="o"),
            Series(label, at_jumps, jumps, line="", color=color, marker="s", hollow=True),
        ]
    size = max(next(iter(found.values())).input_shape[:-1])
    panel = Curves(
        series,
        x_label="layers that widen the field",
        y_label="receptive field (pixels)",
        y_limits=(0, None),
        references=[Reference(y=size, label="input", line="--")],
    )
    return plots.Figure([panel], height=2.4 + 0.6 * len(found), legend="below")


def _widening(described: Geometry) -> list[Field]:
    """Return the fields of the local layers that are wider than those of all layers before."""
    fields: list[Field] = []
    for layer in described.local:
        if layer.field and max(layer.field.size) > max((max(f.size) for f in fields), default=0):
            fields.append(layer.field)
    return fields


def costs(found: dict[str, Geometry]) -> plots.Figure:
    """Return parameters against MACs, a mark per layer, with lines of equal use of a weight."""
    series = []
    macs: list[float] = []
    params: list[float] = []
    for (name, described), color in zip(found.items(), COLORS, strict=False):
        for local in (True, False):
            used = [x for x in described.layers if x.macs and x.params]
            layers = [x for x in used if (x.field is not None) == local]
            label = f"{name}, {'local' if local else 'sees all positions'}"
            x, y = [float(q.macs or 0) for q in layers], [float(q.params) for q in layers]
            marker = "o" if local else "s"
            look = Series(label, y, x, line="", color=color, marker=marker, hollow=not local)
            series.append(look)
            macs, params = macs + x, params + y
    x_limits, y_limits = _decades(macs), _decades(params)
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


def field_map(found: dict[str, Geometry], densities: dict[str, np.ndarray]) -> plots.Figure:
    """Return the weight of each input position for the middle unit of the last local map.

    A signal is one row; of inputs with three axes, the last two are shown.
    """
    panels = []
    for name, described in found.items():
        density = densities[name]
        weight = np.atleast_2d(density.sum(tuple(range(density.ndim - 2))))
        height, width = weight.shape
        (top, bottom), (left, right) = ((0, 0), *seen(described))[-2:]
        deviations = np.maximum(geometry.spread(weight), 0.2)  # that of a row is 0
        middle = np.array([weight.sum(1) @ np.arange(height), weight.sum(0) @ np.arange(width)])
        y, x = zip(middle - 2 * deviations, middle + 2 * deviations, strict=True)
        boxes = [
            _box(0, height - 1, 0, width - 1, label="input"),
            _box(top, bottom, left, right, label="receptive field", color=plots.ORANGE),
            Reference(x=x, y=y, label="effective field, ± 2 s.d.", color=plots.BLUE, line="--"),
        ]
        margin, margin_y = 0.03 * width, 0.03 * height
        panels.append(
            plots.Image(
                weight / weight.max(),
                title=f"{name}: {'×'.join(map(str, last_map(described)[1].size))}",
                x_label="position",
                x_limits=(min(left, 0) - margin, max(right, width) + margin),
                y_limits=(max(bottom, height - 1) + 0.5 + margin_y, min(top, 0) - 0.5 - margin_y),
                signed=False,
                stretch=height == 1,
                axes=True,
                references=boxes,
            )
        )
    size = 3.4 if len(panels) == 1 and height > 1 else 2.4
    return plots.Figure(panels, height=size, legend="below")


def _box(top: int, bottom: int, left: int, right: int, **look: str) -> Reference:
    """Return the outline of the pixels from the first to the last."""
    x, y = (left - 0.5, right + 0.5), (top - 0.5, bottom + 0.5)
    return Reference(x=x, y=y, **({"line": "-"} | look))


def seen(described: Geometry) -> tuple[tuple[int, int], ...]:
    """Return the first and last pixel per axis in the field of the last local map's middle unit."""
    size, field = last_map(described)
    return field.of([n // 2 for n in size])


def last_map(described: Geometry) -> tuple[tuple[int, ...], Field]:
    """Return size and field of the last local map, or of the input."""
    *_, (shape, field) = [
        (described.input_shape, receptive_field.pixel_field(len(described.input_shape) - 1)),
        *((layer.shape, layer.field) for layer in described.local if layer.field),
    ]
    return shape[:-1], field


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
