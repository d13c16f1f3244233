"""What is known of a network before any data: shapes, costs and receptive fields."""

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

from flax import linen as nn

from cnn.errors import InputError
from cnn.geometry.input_size import smallest_size
from cnn.geometry.receptive_field import Field, compose, pixel_field, union
from cnn.geometry.tables import Table
from cnn.geometry.trace import LayerTrace, Shape, trace
from cnn.geometry.windows import layer_windows, propagate
from cnn.layers import ConvLocal, ConvTiled, DenseSpatial
from cnn.ops import per_axis

HEADS = (
    *("layer", "kind", "output", "parameters", "MACs"),
    *("field", "stride", "padding", "centre", "memory, kB"),
)
"""Column heads of a table of layers."""


class Layer(NamedTuple):
    """One layer, or a `Concat` or `Residual` at the point where its branches meet."""

    name: str
    """Its path among the parameters."""
    kind: str
    shape: Shape
    """Of the output, without the batch."""
    params: int
    macs: int
    """Multiply-accumulates for one example: one per kernel element and output, padding counted."""
    memory: int
    """Bytes of the output for one example."""
    field: Field | None
    """Receptive field; `None` if every unit sees all positions."""

    def cells(self) -> tuple[str, ...]:
        """Return the layer's row of a table below `HEADS`."""
        return (self.name, self.kind, "×".join(map(str, self.shape)), *_numbers(self))


@dataclass(frozen=True)
class Geometry(Table):
    """A network on inputs of one shape, layer by layer in the order in which they run."""

    heads: ClassVar = HEADS

    input_shape: Shape
    layers: tuple[Layer, ...]

    @property
    def params(self) -> int:
        """Number of trained parameters."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one example."""
        return sum(layer.macs for layer in self.layers)

    @property
    def memory(self) -> int:
        """Bytes of all outputs for one example, which training keeps for the backward pass."""
        return sum(layer.memory for layer in self.layers)

    @property
    def local(self) -> tuple[Layer, ...]:
        """The layers before the head, the first layer that sees all positions."""
        return tuple(itertools.takewhile(lambda layer: layer.field is not None, self.layers))

    @property
    def field(self) -> Field:
        """The field of the last local layer; that of the pixels if there is none."""
        last = self.local[-1].field if self.local else None
        return last or pixel_field(len(self.input_shape) - 1)

    @property
    def receptive_field(self) -> Shape:
        """The size of `field`, in pixels per axis."""
        return self.field.size

    def total(self) -> tuple[str, ...]:
        """Return the last row of the table."""
        return ("total", "", "", *_numbers(self))

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of a table below `HEADS`: one per layer, and the total."""
        return [*(layer.cells() for layer in self.layers), self.total()]

    def to_json(self) -> str:
        """Return everything as JSON; a field of all positions is null."""
        layers = [
            {
                **layer._asdict(),
                "field": layer.field and {**layer.field._asdict(), "centre": layer.field.centre},
            }
            for layer in self.layers
        ]
        totals = {"params": self.params, "macs": self.macs, "memory": self.memory}
        known = {"input_shape": self.input_shape, "receptive_field": self.receptive_field}
        return json.dumps({**known, **totals, "layers": layers}, indent=1)


def _numbers(of: Layer | Geometry) -> list[str]:
    """Return the cells of costs and field; equal values on all axes are written once."""
    field = ["all", "", "", ""]
    if of.field:
        cells = [[f"{v:g}" for v in axes] for axes in (*of.field, of.field.centre)]
        field = [v[0] if len(set(v)) == 1 else "×".join(v) for v in cells]
    return [f"{of.params:,}", f"{of.macs:,}", *field, f"{of.memory / 1e3:,.1f}"]


def describe(model: nn.Module, input_shape: Sequence[int], *, aligned: bool = True) -> Geometry:
    """Return shapes, costs and receptive fields of `model` by layer; nothing is computed.

    A layer that is not of `cnn.layers` is taken as pointwise if it keeps the number of positions,
    otherwise as one that sees all positions. Its multiply-accumulates are the sizes of its
    parameters called "kernel" times the output positions. Normalisation over positions
    (`GroupNorm`) is taken as pointwise, as is usual.

    Branches that meet with fields of different stride or centre raise `MisalignedError`; with
    `aligned=False` their field is the union, taken for the first unit. If the model does not
    fit the input, the `LayerError` names the smallest input that does.
    """
    shape = tuple(input_shape)
    if not shape or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise InputError(f"input_shape must be (*spatial, channels), each ≥ 1, got {input_shape}")
    try:
        traces = trace(model, shape)
    except InputError as error:
        error.args = (f"{error}{_hint(model, shape)}",)
        raise
    layers: list[Layer] = []

    def at_layer(name: str, layer: nn.Module, field: Field | None) -> Field | None:
        before, after = traces[name].input[:-1], traces[name].output[:-1]
        if field is not None:
            spec = layer_windows(layer, before)
            field = compose(field, spec) if spec is not None and spec.out == after else None
        layers.append(_layer(name, layer, traces[name], field))
        return field

    def at_merge(name: str, layer: nn.Module, fields: list[Field | None]) -> Field | None:
        field = union(name, fields, aligned)
        merged = traces[name]._replace(params={})  # those of the branches are counted
        layers.append(_layer(name, layer, merged, field))
        return field

    start: Field | None = pixel_field(len(shape) - 1)
    propagate(model, start, at_layer, at_merge)
    return Geometry(shape, tuple(layers))


def _layer(name: str, layer: nn.Module, seen: LayerTrace, field: Field | None) -> Layer:
    params = sum(map(math.prod, seen.params.values()))
    kernels = sum(math.prod(s) for path, s in seen.params.items() if path[-1].endswith("kernel"))
    positions = math.prod(seen.output[:-1])
    if isinstance(layer, ConvLocal | DenseSpatial):
        macs = kernels
    elif isinstance(layer, ConvTiled):
        period = per_axis(layer.period, len(seen.output) - 1, "period")
        macs = kernels // math.prod(period) * positions
    else:
        macs = kernels * positions
    return Layer(name, type(layer).__name__, seen.output, params, macs, seen.memory, field)


def _hint(model: nn.Module, shape: Shape) -> str:
    """Return the end of an error message: the smallest input that works, if there is one."""
    *size, channels = shape

    def fits(size: Shape) -> bool:
        try:
            trace(model, (*size, channels))
        except InputError:
            return False
        return True

    limit = min(4096, int(2 ** (20 / max(len(size), 1))))  # a million positions
    found = smallest_size(fits, len(size), start=max(size, default=1), limit=limit)
    return f"; the smallest input that works is {(*found, channels)}, not {shape}" if found else ""
