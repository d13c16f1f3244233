"""The equations of a program as the layers of a network."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

from jax.extend.core import JaxprEqn

from cnn.geometry.jaxpr import out_bytes
from cnn.geometry.moves import MOVES
from cnn.geometry.receptive_field import misalignment
from cnn.geometry.rules import ELEMENTWISE
from cnn.geometry.seen import CONTINUED, EXACT, Seen, along
from cnn.geometry.trace import scope_name
from cnn.geometry.value import Value
from cnn.geometry.walk import FLOWS, Step

KINDS = {
    "conv_general_dilated": "conv",
    "dot_general": "dense",
    "reduce_window_max": "max_pool",
    "reduce_window_sum": "sum_pool",
    "add": "add",
    "concatenate": "concat",
    "reduce_sum": "sum",
    "reduce_max": "max",
}
"""Names of layers that have neither parameters nor a module."""
MERGES = ("add", "add_any", "concatenate", "mul", "max", "min")
"""Primitives where branches meet."""


@dataclass
class Row:
    """Equations in sequence that belong to one layer."""

    owner: str | None
    """The path of their parameters, or else the names around them; None if there are none."""
    name: str
    kind: str
    shape: tuple[int, ...] = ()
    """Of the last output, without the batch."""
    params: int = 0
    macs: int | None = 0
    """None if they are not known."""
    memory: int = 0
    seen: tuple[Seen, ...] = ()
    output: object = None
    """The key of the value that sees this."""
    unknown: str = ""
    used: set[int] = field(default_factory=set)
    """The parameters that it uses."""
    computes: bool = False
    """Whether any of its equations does more than move data."""
    shifted: int | None = None
    """The row of the map of which it combines shifted copies, one after the other."""


@dataclass
class Rows:
    """Collects the layers of a program.

    An equation belongs to the layer whose parameters it uses, else to the innermost module without
    parts that it is in. Outside of these, a convolution, a product, a pooling, the meeting of
    branches or of shifted copies of a map is a layer of its own, and what is left belongs to the
    layer before.
    """

    leaves: Sequence[str]
    """The path of every parameter."""
    sizes: Sequence[int]
    """The number of entries of every parameter."""
    trained: Collection[int]
    """Which of them are trained."""
    modules: Mapping[str, str] | None = None
    """The type of every Linen module, by its path; None for a function."""
    rows: list[Row] = field(default_factory=list)
    misaligned: dict[str, str] = field(default_factory=dict)
    """The layers where branches meet whose fields have different strides or centres, and these."""
    counted: set[int] = field(default_factory=set)

    def record(self, step: Step) -> int:
        """Record an equation, and return the index of its row."""
        eqn, scope, operands, outputs, cost, times = step
        if eqn.primitive.name in FLOWS and cost is not None:
            return self._visited(step)
        used = sorted(set[int]().union(*(v.leaves for v in operands if not v.from_input)))
        path = self._path(scope)
        owner = self._owner(used) if used else path
        alone = bool(used) or (self.modules is not None and self._is_leaf(path))
        sources = {self._source(value.row) for value in operands if value.from_input}
        meets, shifted, goes_on = len(sources) > 1, None, False
        before = max(value.row for value in operands)
        if not alone and not self._stands_out(eqn, operands, meets):
            shifted = max(sources)
            goes_on = shifted != before == len(self.rows) - 1
            is_map = all(seen.axis is not None for seen in outputs[0].seen)
            if not (goes_on and is_map) and not _joins_shifted(operands, outputs):
                return before
        owned = owner if owner or alone else None
        last = self.rows[-1] if self.rows and (owned is not None or goes_on) else None
        # A convolution or product with the same weights is the layer's next run.
        if last is None or last.owner != owned or (cost and last.used.intersection(used)):
            self._start(eqn, owned, operands if meets else [])
        row, output = self.rows[-1], outputs[0]
        row.computes |= eqn.primitive.name not in MOVES or meets
        row.shifted = shifted
        row.shape, row.seen, row.unknown = _of_one(output.shape), output.seen, output.unknown
        row.output = output.key
        row.memory = times * out_bytes(eqn)
        row.used.update(used)
        row.params += sum(self._count(i, operands) for i in used)
        row.macs = None if row.macs is None or cost is None else row.macs + cost
        return len(self.rows) - 1

    def _visited(self, step: Step) -> int:
        """Return the row of a loop or branch whose equations have rows.

        It has one of its own if its units see more than those of the last row, as those of a
        running mean do, which moves along the positions.
        """
        last = max(value.row for value in (*step.operands, *step.outputs))
        output = max(step.outputs, key=lambda value: math.prod(value.shape))
        of_input = next(value.seen for value in step.operands if value.from_input)
        before = self.rows[last].seen if last >= 0 else of_input
        if output.unknown or not any(map(_sees_more, output.seen, before)):
            return last
        self._start(step.eqn, None, [])
        row = self.rows[-1]
        row.computes, row.shape, row.seen = True, _of_one(output.shape), output.seen
        row.output = output.key
        row.memory = step.times * out_bytes(step.eqn)
        return len(self.rows) - 1

    def _start(self, eqn: JaxprEqn, owner: str | None, operands: list[Value]) -> None:
        """Begin a row; its name is that of the primitive if its owner has none."""
        primitive = eqn.primitive.name
        kind = KINDS.get(primitive, primitive)
        name = kind
        if owner is not None and (owner or self.modules is not None):
            name, kind = owner, (self.modules or {}).get(owner, kind)
        same = sum(row.name.partition("#")[0] == name for row in self.rows)
        self.rows.append(Row(owner, f"{name}#{same + 1}" if same else name, kind))
        if primitive in MERGES and (found := misalignment([v.seen for v in operands if v.seen])):
            self.misaligned[self.rows[-1].name] = found

    def _source(self, row: int) -> int:
        """Return the row of the map of which a row combines shifted copies, or the row itself."""
        shifted = self.rows[row].shifted if row >= 0 else None
        return row if shifted is None else shifted

    def _owner(self, used: Sequence[int]) -> str:
        """Return the path of the layer that holds the largest of these parameters.

        At the top of the tree a parameter is a layer of its own, unless all is one module.
        """
        leaf = self.leaves[max(used, key=self.sizes.__getitem__)]
        owner = leaf.rpartition("/")[0]
        one_module = self.modules is not None and self._is_leaf("")
        return owner if owner or one_module else leaf

    def _path(self, scope: str) -> str:
        """Return the path of the innermost module around an equation, or the names around it."""
        names = [name for name in scope.split("/") if "(" not in name]
        if self.modules is None:
            return "/".join(names)
        paths = {scope_name(path): path for path in self.modules}
        return next((paths[name] for name in reversed(names) if name in paths), "")

    def _is_leaf(self, path: str) -> bool:
        """Return whether a module has no others inside."""
        inside = f"{path}/" if path else ""
        return not any(other != path and other.startswith(inside) for other in self.modules or ())

    def _stands_out(self, eqn: JaxprEqn, operands: list[Value], meets: bool) -> bool:
        """Return whether an equation is a layer although no parameter or module says so."""
        name = eqn.primitive.name
        if name in MOVES or name in ELEMENTWISE:
            return meets and name in MERGES
        if name.startswith(("reduce_", "arg")) and not name.startswith("reduce_window"):
            axes = [int(axis) + 1 for axis in eqn.params["axes"]]
            return any(s.bounds.shape[a] > 1 for v in operands for s in v.seen for a in axes)
        return True

    def _count(self, leaf: int, operands: list[Value]) -> int:
        """Return how many weights of a parameter are trained, once for each parameter."""
        if leaf in self.counted or leaf not in self.trained:
            return 0
        self.counted.add(leaf)
        size = self.sizes[leaf]
        (value, *_) = (v for v in operands if leaf in v.leaves)
        return value.used(size) if math.prod(value.shape) == size else size


def _joins_shifted(operands: Sequence[Value], outputs: Sequence[Value]) -> bool:
    """Return whether units of a map see more than those of any operand, as in x[1:] - x[:-1].

    Or as where neighbours become channels.
    """
    for axis, output in enumerate(outputs[0].seen):
        widths = [_width(value.sees(axis)) for value in operands if value.seen]
        if _width(output) > max(widths) >= 0:
            return True
    return False


def _width(seen: Seen) -> int:
    """Return the distance of the last position from the first that a unit of a map sees.

    It is negative for what is no map.
    """
    if seen.axis is None:
        return -1
    first_and_last = along(seen.bounds, seen.axis)[CONTINUED]
    return int(-first_and_last.sum(0).min())


def _sees_more(seen: Seen, before: Seen) -> bool:
    """Return whether a unit sees positions further apart than any unit of another value."""
    apart, apart_before = (int(-s.bounds[EXACT].sum(0).min()) for s in (seen, before))
    return apart > apart_before


def _of_one(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return a shape without its batch: the first axis of size 1."""
    batch = shape.index(1) if 1 in shape else 0
    return shape[:batch] + shape[batch + 1 :]
