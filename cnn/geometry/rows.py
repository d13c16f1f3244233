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
from cnn.geometry.seen import Seen
from cnn.geometry.trace import scope_name
from cnn.geometry.value import Value
from cnn.geometry.walk import Step

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

    owner: str
    """The path of their parameters, or else the names around them."""
    name: str
    kind: str
    shape: tuple[int, ...] = ()
    """Of the last output, without the batch."""
    params: int = 0
    macs: int | None = 0
    """None if they are not known."""
    memory: int = 0
    seen: tuple[Seen, ...] = ()
    unknown: str = ""
    used: set[int] = field(default_factory=set)
    """The parameters that it uses."""
    computes: bool = False
    """Whether any of its equations does more than move data."""


@dataclass
class Rows:
    """Collects the layers of a program.

    An equation belongs to the layer whose parameters it uses, else to the innermost module without
    parts that it is in. Outside of these, a convolution, a product, a pooling or the meeting of
    branches is a layer of its own, and what is left belongs to the layer before.
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
        used = sorted(set[int]().union(*(v.leaves for v in operands if not v.from_input)))
        path = self._path(scope)
        owner = self._owner(used) if used else path
        alone = bool(used) or (self.modules is not None and self._is_leaf(path))
        meets = len({value.row for value in operands if value.from_input}) > 1
        if not alone and not self._stands_out(eqn, operands, meets):
            return max(value.row for value in operands)
        last = self.rows[-1] if self.rows and (owner or alone) else None
        # A convolution or product with the same weights is the layer's next run.
        if last is None or last.owner != owner or (cost and last.used.intersection(used)):
            module = owner or (alone and self.modules is not None)
            self._start(eqn, owner if module else None, operands)
        row, output = self.rows[-1], outputs[0]
        row.computes |= eqn.primitive.name not in MOVES or meets
        row.shape, row.seen, row.unknown = output.shape[1:], output.seen, output.unknown
        row.memory = times * out_bytes(eqn)
        row.used.update(used)
        row.params += sum(self._count(i, operands) for i in used)
        row.macs = None if row.macs is None or cost is None else row.macs + cost
        return len(self.rows) - 1

    def _start(self, eqn: JaxprEqn, owner: str | None, operands: list[Value]) -> None:
        """Begin a row; its name is that of the primitive if it has no owner."""
        primitive = eqn.primitive.name
        kind = KINDS.get(primitive, primitive)
        if owner is not None:
            kind = (self.modules or {}).get(owner, kind)
        name = owner if owner is not None else kind
        same = sum(row.name.partition("#")[0] == name for row in self.rows)
        self.rows.append(Row(owner or "", f"{name}#{same + 1}" if same else name, kind))
        if primitive in MERGES and (found := misalignment([v.seen for v in operands if v.seen])):
            self.misaligned[self.rows[-1].name] = found

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
