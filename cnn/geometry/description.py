"""What can be known of a network before any data: shapes, costs and receptive fields."""

from __future__ import annotations

import itertools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from flax import linen as nn

from cnn.errors import InputError
from cnn.geometry.receptive_field import Field, grown, one, united
from cnn.geometry.tables import HEADS, cells, markdown, numbers, rich_table
from cnn.geometry.trace import Seen, Shape, trace
from cnn.geometry.windows import fold, placement, smallest
from cnn.layers import ConvLocal, ConvTiled, DenseSpatial
from cnn.ops import per_axis

if TYPE_CHECKING:
    from rich.table import Table as RichTable


class Layer(NamedTuple):
    """One layer, or the place where branches meet: its kind is then "Concat" or "Residual"."""

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
    """`None`: every unit sees all positions."""


@dataclass(frozen=True)
class Geometry:
    """A network on inputs of one shape, layer by layer in the order in which they run."""

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
        """Bytes of all outputs for one example: what training keeps for the way back."""
        return sum(layer.memory for layer in self.layers)

    @property
    def local(self) -> tuple[Layer, ...]:
        """The layers before the head sees all positions."""
        return tuple(itertools.takewhile(lambda layer: layer.field is not None, self.layers))

    @property
    def field(self) -> Field:
        """The field of the last local layer; of the pixels themselves where there is none."""
        last = self.local[-1].field if self.local else None
        return last or one(len(self.input_shape) - 1)

    @property
    def receptive_field(self) -> Shape:
        """The size of `field`, in pixels per axis."""
        return self.field.size

    def total(self) -> tuple[str, ...]:
        """Return the last row of the table."""
        return ("total", "", "", *numbers(self))

    def rows(self) -> list[Sequence[str]]:
        """Return the cells of a table below `HEADS`: a row per layer, and the totals."""
        return [*map(cells, self.layers), self.total()]

    def to_markdown(self) -> str:
        """Return the table as Markdown."""
        return markdown(HEADS, self.rows())

    def to_rich(self, title: str = "") -> RichTable:
        """Return the table for a terminal, to be printed by `rich.print`."""
        return rich_table(title, HEADS, self.rows())

    def to_json(self) -> str:
        """Return everything as JSON; a field that is all positions is null."""
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


def describe(model: nn.Module, input_shape: Sequence[int], *, aligned: bool = True) -> Geometry:
    """Describe `model` on inputs of `input_shape`, `(*spatial, channels)`; nothing is computed.

    A layer that is not of `cnn.layers` acts on each position if it keeps their number, else it sees
    all of them. Its multiply-accumulates are those of parameters called "kernel", once per output
    position. Normalisation over positions (`GroupNorm`) counts as acting on each, as usual.

    Raises `LayerError` where the model does not fit the input, with the smallest that it does fit,
    `Misaligned` where branches that meet do not look at the same place. With `aligned=False` the
    field is then the union of theirs, as the first unit has it.
    """
    shape = tuple(input_shape)
    if not shape or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise InputError(f"input_shape {input_shape} cannot be: give sizes, then channels, from 1")
    try:
        seen = trace(model, shape)
    except InputError as error:
        error.args = (f"{error}{_remedy(model, shape)}",)
        raise
    layers: list[Layer] = []

    def leaf(name: str, layer: nn.Module, field: Field | None) -> Field | None:
        was, now = seen[name].input[:-1], seen[name].output[:-1]
        at = placement(layer, was) if field is not None else None
        field = grown(field, at) if field is not None and at is not None and at.out == now else None
        layers.append(_layer(name, layer, seen[name], field))
        return field

    def merge(name: str, layer: nn.Module, fields: list[Field | None]) -> Field | None:
        field = united(name, fields, aligned)
        output, size = seen[name].output, seen[name].memory
        layers.append(Layer(name, type(layer).__name__, output, 0, 0, size, field))
        return field

    start: Field | None = one(len(shape) - 1)
    fold(model, start, leaf, merge)
    return Geometry(shape, tuple(layers))


def _layer(name: str, layer: nn.Module, seen: Seen, field: Field | None) -> Layer:
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


def _remedy(model: nn.Module, shape: Shape) -> str:
    """Say which is the smallest input that works; nothing if none does."""
    *size, channels = shape

    def fits(tried: Shape) -> bool:
        try:
            trace(model, (*tried, channels))
        except InputError:
            return False
        return True

    most = min(4096, int(2 ** (20 / max(len(size), 1))))  # a million positions
    found = smallest(fits, len(size), start=max(size, default=1), most=most)
    if found is None:
        return ""
    return f"; the smallest input that works is {(*found, channels)}, not {shape}"
