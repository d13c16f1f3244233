"""What the values of a program depend on: which convolution has its kernel from which parameters.

A value depends on data, on parameters alone, or on neither. Where an equation with data takes in a
value of parameters alone, it uses these parameters.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params

from cnn.ablations import equations
from cnn.ablations.values import DATA, Key, Value, constant, result_of
from cnn.geometry.jaxpr import aval, called, closed, moved_axes
from cnn.layers import AvgPool, MaxPool

Shape = tuple[int, ...]
Use = Key | tuple[str, int | None]
"""The equation that uses a parameter; or "output" and the parameter that the output is new for."""


class Kernel(NamedTuple):
    """A convolution whose kernel is not constant."""

    key: Key
    convolution: equations.Convolution
    value: Value
    inside: str
    """The primitive of the loop, or the like, around it."""
    border: str
    """The primitive that has padded its input, if one has."""


class Pool(NamedTuple):
    """A maximum, or a mean by `divisor`, of windows."""

    key: Key
    layer: MaxPool | AvgPool
    shape: Shape
    divisor: np.ndarray | None
    inside: str


class Addition(NamedTuple):
    """An addition of parameters to the output of a convolution: of its bias, or `unclear`."""

    key: Key
    bias: int | None
    unclear: str = ""


class Dataflow:
    """The convolutions and pools of a program, and the uses of its parameters."""

    def __init__(self, sizes: Sequence[int]) -> None:
        self.sizes = sizes
        self.kernels: dict[Key, Kernel] = {}
        self.pools: list[Pool] = []
        self.additions: dict[Key, Addition] = {}
        self.uses: list[dict[Use, str]] = [{} for _ in sizes]
        self.consumers: Counter[Key] = Counter()
        """How many computations take in the output of a convolution or sum over windows, moved."""
        self._sums: dict[Key, JaxprEqn] = {}
        self._borders: dict[Key, JaxprEqn] = {}

    def walk(
        self, program: ClosedJaxpr, operands: Sequence[Value], path: Key = (), inside: str = ""
    ) -> list[Value]:
        """Return what is known of the results."""
        jaxpr: Jaxpr = program.jaxpr
        known: dict[Var, Value] = dict(zip(jaxpr.invars, operands, strict=True))
        known |= {v: constant(c) for v, c in zip(jaxpr.constvars, program.consts, strict=True)}

        def look_up(variable: Var | Literal) -> Value:
            return constant(variable.val) if isinstance(variable, Literal) else known[variable]

        for number, eqn in enumerate(jaxpr.eqns):
            values = [look_up(v) for v in eqn.invars]
            results = self._equation(eqn, values, (*path, number), inside)
            known.update(zip(eqn.outvars, results, strict=True))
        return [look_up(v) for v in jaxpr.outvars]

    def _equation(
        self, eqn: JaxprEqn, values: list[Value], key: Key, inside: str
    ) -> Sequence[Value]:
        name = eqn.primitive.name
        if (program := called(eqn)) is not None:
            if not name.startswith("custom"):
                return self.walk(program, values, key, inside)
            results = self.walk(program, values, key, inside or name)
            return [v._replace(source=None, through=v.through or name) for v in results]
        result = result_of(eqn, values)
        if result.data:
            bodies = list(jaxprs_in_params(eqn.params))
            if bodies:
                self._loop(bodies, values, key, inside or name)
            else:
                for leaf in frozenset[int]().union(*(v.leaves for v in values)):
                    self.uses[leaf][key] = name
                if moved_axes(eqn) is None:
                    self.consume(values)
                result = self._window(eqn, values, key, inside) or result
        return [result] * len(eqn.outvars)

    def consume(self, values: Sequence[Value]) -> None:
        """Count a computation that takes in `values`."""
        self.consumers.update({v.source for v in values if isinstance(v.source, tuple)})

    def _loop(self, bodies: list[Any], values: list[Value], key: Key, name: str) -> None:
        """Walk through the bodies of a loop, or of branches: their operands are the last ones.

        What a loop carries may come to depend on data.
        """
        values = [value if value.leaves else DATA for value in values]
        for number, body in enumerate(map(closed, bodies)):
            count = len(body.jaxpr.invars)
            if count <= len(values):
                self.walk(body, values[len(values) - count :], (*key, number), name)

    def _window(self, eqn: JaxprEqn, values: list[Value], key: Key, inside: str) -> Value | None:
        """Record a convolution, its bias, or a pool; return what is known of its result."""
        match eqn.primitive.name:
            case "conv_general_dilated":
                kernel = values[1]
                if kernel.leaves or kernel.data:
                    conv = equations.convolution(eqn)
                    border = self._border(values[0], eqn)
                    self.kernels[key] = Kernel(key, conv, kernel, inside, border)
                    return _source(eqn, key)
            case "concatenate" | "pad":
                self._borders[key] = eqn
                return _source(eqn, key)
            case "add" | "add_any":
                out = aval(eqn.outvars[0])
                for i, variable in enumerate(eqn.invars):
                    if aval(variable).shape == out.shape:
                        self._addition(values[i], values[1 - i], key, out.dtype)
            case "reduce_window_max":
                if (pool := equations.max_pool(eqn)) is not None:
                    self.pools.append(Pool(key, *pool, None, inside))
            case "reduce_window_sum":
                self._sums[key] = eqn
                return _source(eqn, key)
            case "div" | "mul":
                swap = eqn.primitive.name == "mul" and not values[0].data
                total, factor = values[::-1] if swap else values
                if total.source in self._sums and factor.constant is not None:
                    divisor = np.asarray(factor.constant(), np.float64)
                    with np.errstate(divide="ignore"):
                        divisor = divisor if eqn.primitive.name == "div" else 1 / divisor
                    if (mean := equations.avg_pool(self._sums[total.source], divisor)) is not None:
                        self.pools.append(Pool(total.source, *mean, divisor, inside))
        return None

    def _border(self, x: Value, conv: JaxprEqn) -> str:
        """Return the primitive that made `x` longer along an axis of the windows, if one did."""
        eqn = self._borders.get(x.source) if isinstance(x.source, tuple) else None
        if eqn is None:
            return ""
        if eqn.primitive.name == "concatenate":
            axes = {eqn.params["dimension"]}
        else:
            axes = {axis for axis, pad in enumerate(eqn.params["padding_config"]) if any(pad)}
        spatial = conv.params["dimension_numbers"].lhs_spec[2:]
        return eqn.primitive.name if {x.axes[axis] for axis in axes} & {*spatial} else ""

    def _addition(self, y: Value, bias: Value, key: Key, dtype: Any) -> None:
        """Record the addition of `bias`, a value of parameters, to `y`, a moved output."""
        kernel = self.kernels.get(y.source) if isinstance(y.source, tuple) else None
        if kernel is None or not bias.leaves:
            return
        conv, leaf = kernel.convolution, bias.source
        if not isinstance(leaf, int):
            unclear = f"its bias passes through {bias.through} before it is added"
            self.additions[kernel.key] = Addition(key, None, unclear)
        elif self.sizes[leaf] == conv.layer.features and (
            self.sizes[leaf] == 1 or y.axes[conv.channels] in {*bias.axes} - {None}
        ):
            unclear = "" if dtype == conv.dtype else f"its bias is added to its output in {dtype}"
            self.additions[kernel.key] = Addition(key, None if unclear else leaf, unclear)


def _source(eqn: JaxprEqn, key: Key) -> Value:
    """Return what is known of the result of an equation that moves are to be followed from."""
    return DATA._replace(source=key, axes=tuple(range(aval(eqn.outvars[0]).ndim)))


def read(program: ClosedJaxpr, parameters: int, updates: Mapping[int, int]) -> Dataflow:
    """Return the dataflow of a program whose first operands are so many `parameters`.

    `updates` gives the parameter, such as a running statistic, that an output is new for.
    """
    avals = [aval(v) for v in program.jaxpr.invars]
    flow = Dataflow([aval.size for aval in avals[:parameters]])
    operands = [
        Value(frozenset([i]), source=i, axes=tuple(range(aval.ndim))) if i < parameters else DATA
        for i, aval in enumerate(avals)
    ]
    results = flow.walk(program, operands)
    flow.consume(results)
    for number, value in enumerate(results):
        for leaf in value.leaves:
            flow.uses[leaf]["output", updates.get(number)] = "the output"
    return flow
