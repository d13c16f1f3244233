"""What is known of a network before any data: shapes, costs and receptive fields."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple

from flax import linen as nn
from jaxtyping import Array, PyTree

from cnn.errors import InputError, unknown_name
from cnn.geometry.reading import Reading, checked_shape, read_function, read_model
from cnn.geometry.receptive_field import (
    Field,
    MisalignedError,
    field_of,
    is_spread,
    pixel_field,
    sees_all,
    sees_beyond,
    unit_field,
)
from cnn.geometry.rows import Row
from cnn.geometry.search import smallest_size
from cnn.geometry.seen import Seen
from cnn.geometry.tables import Table
from cnn.geometry.trace import Shape, trace

HEADS = (
    *("layer", "kind", "output", "parameters", "MACs"),
    *("field", "stride", "padding", "centre", "memory, kB"),
)
"""Column heads of a table of layers."""


class Layer(NamedTuple):
    """One layer, or a point where branches meet."""

    name: str
    """The path of its parameters, or else of its module, or the kind of its first operation."""
    kind: str
    shape: Shape
    """Of the output, without the batch."""
    params: int
    """Trained parameters. One that several layers share counts where it is used first."""
    macs: int | None
    """Multiply-accumulates for one example: one per kernel element and output, padding counted.
    None if they are not known."""
    memory: int
    """Bytes of the output for one example."""
    field: Field | None
    """Receptive field; None if every unit sees all positions, or if `unknown`."""
    besides: str = ""
    """What units see besides their field, through a statistic of many positions: "all" positions,
    or "more" than the field."""
    unknown: str = ""
    """The operation because of which the field is not known."""

    def cells(self) -> tuple[str, ...]:
        """Return the layer's row of a table below `HEADS`."""
        costs = [f"{self.params:,}", "not known" if self.macs is None else f"{self.macs:,}"]
        cells = [*costs, *_field_cells(self), f"{self.memory / 1e3:,.1f}"]
        return (self.name, self.kind, "×".join(map(str, self.shape)), *cells)


@dataclass(frozen=True)
class Geometry(Table):
    """A network on inputs of one shape, layer by layer in the order in which they run."""

    heads: ClassVar = HEADS

    input_shape: Shape
    layers: tuple[Layer, ...]
    seen: dict[str, tuple[Seen, ...]] = field(repr=False, compare=False)
    """What the units of each layer see, by the layer's name."""

    @property
    def params(self) -> int:
        """Number of trained parameters."""
        return sum(layer.params for layer in self.layers)

    @property
    def macs(self) -> int:
        """Multiply-accumulates for one example; `InputError` if those of a layer are not known."""
        total = 0
        for layer in self.layers:
            if layer.macs is None:
                raise InputError(f"the multiply-accumulates of layer {layer.name} are not known")
            total += layer.macs
        return total

    @property
    def memory(self) -> int:
        """Bytes of all outputs for one example, which training keeps for the backward pass."""
        return sum(layer.memory for layer in self.layers)

    @property
    def local(self) -> tuple[Layer, ...]:
        """The layers whose units form a map, with equal fields, equally spaced."""
        return tuple(layer for layer in self.layers if layer.field and layer.field.is_map)

    @property
    def field(self) -> Field:
        """The field of the last layer with units at several positions, before the head.

        That of the pixels if there is none. If these units have different fields, it is not
        `uniform`, and its size is that of the largest.

        Raises:
          InputError: if it is not known.
        """
        last = self._before_head
        if last.unknown:
            raise InputError(f"the field is not known from layer {last.name} on: {last.unknown}")
        return last.field or pixel_field(len(self.input_shape) - 1)

    @property
    def _before_head(self) -> Layer:
        """The last layer with units at several positions, or the first that is not known."""
        last = Layer("", "", (), 0, 0, 0, pixel_field(len(self.input_shape) - 1))
        for layer in self.layers:
            if layer.unknown:
                return layer
            is_map = layer.field is not None and layer.field.is_map
            if is_map or (layer.field and any(map(is_spread, self.seen[layer.name]))):
                last = layer
        return last

    @property
    def receptive_field(self) -> Shape:
        """The size of `field`, in pixels per axis."""
        return self.field.size

    def field_of(self, layer: str, unit: Sequence[int]) -> tuple[tuple[int, int], ...]:
        """Return the first and the last pixel that one unit of a layer sees, per axis.

        Args:
          layer: its name.
          unit: a position on the layer's map, one number per spatial axis.

        Returns:
          Positions outside the input are padding. If the fields are not uniform, only pixels of the
          input count; a unit that sees none of them has an interval (0, -1).
        """
        if layer not in self.seen:
            raise unknown_name("layer", layer, self.seen)
        found = next(x for x in self.layers if x.name == layer)
        if found.unknown:
            raise InputError(f"the field of layer {layer} is not known, because of {found.unknown}")
        return unit_field(self.seen[layer], unit, self.input_shape[:-1])

    def total(self) -> tuple[str, ...]:
        """Return the last row of the table."""
        known = all(layer.macs is not None for layer in self.layers)
        costs = (f"{self.params:,}", f"{self.macs:,}" if known else "not known")
        cells = _field_cells(self._before_head)
        return ("total", "", "", *costs, *cells, f"{self.memory / 1e3:,.1f}")

    def rows(self) -> list[tuple[str, ...]]:
        """Return the rows of a table below `HEADS`: one per layer, and the total."""
        return [*(layer.cells() for layer in self.layers), self.total()]

    def to_json(self) -> str:
        """Return everything as JSON. A field of all positions and what is not known are null."""
        layers = [
            {
                **layer._asdict(),
                "field": layer.field and {**layer.field._asdict(), "centre": layer.field.centre},
            }
            for layer in self.layers
        ]
        known = all(layer.macs is not None for layer in self.layers)
        totals = {"params": self.params, "macs": self.macs if known else None}
        last = self._before_head.field
        of_input = {"input_shape": self.input_shape, "receptive_field": last and last.size}
        return json.dumps({**of_input, **totals, "memory": self.memory, "layers": layers}, indent=1)


def _field_cells(layer: Layer) -> list[str]:
    """Return size, stride, padding and centre; equal values on all axes are written once."""
    if layer.field is None:
        return [f"not known ({layer.unknown})" if layer.unknown else "all", "", "", ""]
    size, stride, padding, centre = (
        v[0] if len(set(v := [f"{n:g}" for n in axes])) == 1 else "×".join(v)
        for axes in (*layer.field[:3], layer.field.centre)
    )
    if not layer.field.is_map:
        return [size if layer.field.uniform else f"≤ {size}", "", "", ""]
    return [f"{size} + {layer.besides}" if layer.besides else size, stride, padding, centre]


def describe(
    model: nn.Module,
    input_shape: Sequence[int],
    variables: PyTree = None,
    *,
    aligned: bool = True,
) -> Geometry:
    """Return shapes, costs and receptive fields of a Linen module by layer; nothing is computed.

    Everything is read from the program that JAX traces, with the definitions of `cnn.ops`. A field
    is what may change a unit, whatever the weights. Units of a map may see more besides their
    field, through a statistic of many positions, as in group normalization: `Layer.besides`.

    Args:
      model: any Linen module of one input. If its `__call__` has an argument `train`, it is False.
      input_shape: `(*spatial, channels)`.
      variables: arrays or their shapes; by default those of `model.init`. Those in "params" count
        as trained.
      aligned: whether branches have to meet with fields of the same stride and centre. Otherwise
        their field is the union.

    Raises:
      MisalignedError: branches meet with fields of different strides or centres.
      LayerError: the model does not fit the input; names the smallest input that fits, if any.
      InputError: a shape depends on the data.
    """
    shape = checked_shape(input_shape)
    if not isinstance(model, nn.Module):
        raise InputError(f"model must be a Linen module, got {model!r}: use describe_function")
    try:
        reading = read_model(model, shape, variables)
    except InputError as error:
        error.args = (f"{error}{_hint(model, shape)}",)
        raise
    return _geometry(reading, shape, aligned)


def describe_function(
    f: Callable[[PyTree, Array], Any],
    params: PyTree,
    input_shape: Sequence[int],
    *,
    aligned: bool = True,
) -> Geometry:
    """Return shapes, costs and receptive fields of any function `f(params, x)`, as `describe` does.

    Args:
      f: a function of parameters and of a batch of inputs `(1, *spatial, channels)`: an NNX
        network after `nnx.split`, one of Equinox after `eqx.partition`, of Haiku, of Keras on JAX.
      params: a tree of arrays, or of their shapes. All of them count as trained if `f` uses them.
      input_shape: `(*spatial, channels)`.
      aligned: as in `describe`.
    """
    shape = checked_shape(input_shape)
    return _geometry(read_function(f, params, shape), shape, aligned)


def _geometry(reading: Reading, shape: Shape, aligned: bool) -> Geometry:
    rows = reading.rows
    if aligned and rows.misaligned:
        name, found = next(iter(rows.misaligned.items()))
        raise MisalignedError(
            name,
            f"its branches are not aligned, their fields have {found}: give them equal padding and "
            "strides, or pass aligned=False",
        )
    listed = [row for row in rows.rows if row.computes or len(row.shape) == len(shape)]
    layers = tuple(_layer(row, shape[:-1]) for row in listed)
    return Geometry(shape, layers, {row.name: row.seen for row in listed})


def _layer(row: Row, size: Shape) -> Layer:
    found = None if row.unknown else field_of(row.seen, size)
    besides = ""
    if found is not None and any(map(sees_beyond, row.seen)):
        besides = "all" if all(map(sees_all, row.seen, size)) else "more"
    costs = (row.params, row.macs, row.memory)
    return Layer(row.name, row.kind, row.shape, *costs, found, besides, row.unknown)


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
