"""One walk over a program: what each of its values sees of the input, and what that costs."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var

from cnn.geometry import control_flow
from cnn.geometry.costs import macs
from cnn.geometry.jaxpr import called, out_shapes
from cnn.geometry.moves import KEEPS, PARTS, move
from cnn.geometry.rules import RULES
from cnn.geometry.seen import Seen, nothing
from cnn.geometry.value import Value


class Step(NamedTuple):
    """An equation that the input changes, in a program or in one that it calls."""

    eqn: JaxprEqn
    scope: str
    """The names around it."""
    operands: list[Value]
    outputs: list[Value]
    """They have no row yet."""
    cost: int | None
    """Multiply-accumulates, of all `times` together; None if they are not known. Those of a loop
    or branch whose equations were visited are 0: they have their own steps."""
    times: int
    """How often it runs."""


Visit = Callable[[Step], int]
"""Is called for each step, in order; returns the index of the row that it belongs to."""


def walk(
    program: ClosedJaxpr, args: Sequence[Value], visit: Visit, scope: str = "", times: int = 1
) -> list[Value]:
    """Return the outputs of a program with the values `args`.

    Equations are visited unless `times`, how often the program runs, is 0.
    """
    env: dict[Var, Value] = {}
    for var, array in zip(program.jaxpr.constvars, program.consts, strict=True):
        env[var] = _known(array)
    env.update(zip(program.jaxpr.invars, args, strict=True))

    def read(atom: Var | Literal) -> Value:
        return _known(atom.val) if isinstance(atom, Literal) else env[atom]

    eqns, made = program.jaxpr.eqns, program.jaxpr.outvars
    last = {atom: i for i, eqn in enumerate(eqns) for atom in eqn.invars if isinstance(atom, Var)}
    last |= {atom: len(eqns) for atom in made if isinstance(atom, Var)}
    for i, eqn in enumerate(eqns):
        operands = [read(atom) for atom in eqn.invars]
        inside = "/".join(filter(None, (scope, str(eqn.source_info.name_stack))))
        outputs = _run(eqn, operands, visit, inside, times)
        env.update(zip(eqn.outvars, outputs, strict=True))
        # What units see can take more memory than the values.
        for atom in {a for a in eqn.invars if isinstance(a, Var) and last[a] == i}:
            del env[atom]
    return [read(atom) for atom in program.jaxpr.outvars]


def _known(array: Any) -> Value:
    return Value(np.shape(array), constant=lambda: array)


def _run(eqn: JaxprEqn, operands: list[Value], visit: Visit, scope: str, times: int) -> list[Value]:
    if (inner := called(eqn)) is not None:
        return walk(inner, operands, visit, scope, times)
    if not any(value.from_input for value in operands):
        return _weights(eqn, operands)

    def run(program: ClosedJaxpr, args: Sequence[Value], count: int) -> list[Value]:
        return walk(program, args, visit, scope, times * count)

    flow = FLOWS.get(eqn.primitive.name)
    if flow is not None:
        outputs, visited = flow(eqn, operands, run)
        cost = 0 if visited else None
    else:
        outputs = _see(eqn, operands)
        cost = times * macs(eqn, operands) if eqn.primitive.name in RULES else None
    row = max(value.row for value in (*operands, *outputs))
    if times:
        row = visit(Step(eqn, scope, operands, outputs, cost, times))
    return [value._replace(row=row) for value in outputs]


def _see(eqn: JaxprEqn, operands: list[Value]) -> list[Value]:
    """Return what the outputs of an equation see."""
    name = eqn.primitive.name
    shapes = out_shapes(eqn)
    unknown = next((v.unknown for v in operands if v.unknown), "" if name in RULES else name)
    if unknown:
        return [Value(shape, unknown=unknown, key=object()) for shape in shapes]
    axes: list[list[Seen]] = []
    for i in range(max(len(value.seen) for value in operands)):
        if any(0 in shape for shape in shapes):  # an empty part, as jnp.pad concatenates
            axes.append([nothing(len(shape)) for shape in shapes])
            continue
        found = RULES[name](eqn, operands, [value.sees(i) for value in operands])
        axes.append(found if isinstance(found, list) else [found] * len(shapes))
    first, part_of = operands[0], None
    if name in PARTS or (name in KEEPS and first.part_of):
        part_of = first.part_of or first.key
    seen = list(zip(*axes, strict=True)) if axes else [()] * len(shapes)
    each = zip(shapes, seen, strict=True)
    return [Value(shape, s, key=object(), part_of=part_of) for shape, s in each]


def _weights(eqn: JaxprEqn, operands: list[Value]) -> list[Value]:
    """Return the outputs of an equation that the input does not change."""
    shapes = out_shapes(eqn)
    leaves = frozenset[int]().union(*(value.leaves for value in operands))
    functions = [value.constant for value in operands]
    if not leaves and all(functions) and eqn.primitive.name != "platform_index":
        compute = functools.cache(lambda: _compute(eqn, functions))
        outputs = [functools.partial(lambda i: compute()[i], i) for i in range(len(shapes))]
        return [Value(s, constant=f) for s, f in zip(shapes, outputs, strict=True)]
    return [Value(shape, leaves=leaves, nonzero=_nonzero(eqn, operands)) for shape in shapes]


def _compute(eqn: JaxprEqn, functions: Sequence[Callable[[], Any] | None]) -> list[Any]:
    with jax.ensure_compile_time_eval():
        arrays = [jnp.asarray(f()) for f in functions if f is not None]
        made = eqn.primitive.bind(*arrays, **eqn.params)
    return list(made) if eqn.primitive.multiple_results else [made]


def _nonzero(eqn: JaxprEqn, operands: list[Value]) -> np.ndarray | None:
    """Return where the output may differ from zero, as far as a mask says so."""
    masks = [value.mask() for value in operands]
    if all(mask is None for mask in masks):
        return None
    one = np.full((1,) * (1 + len(out_shapes(eqn)[0])), True)
    full = [one if m is None else m.reshape(one.shape) if m.ndim == 1 else m for m in masks]
    match eqn.primitive.name:
        case "mul":
            return functools.reduce(np.logical_and, full)
        case "div":
            return full[0]
        case "select_n" if operands[0].constant is not None:
            return np.choose(np.asarray(operands[0].constant())[None].astype(int), full[1:])
    return None if masks[0] is None else move(eqn, operands[0].shape, masks[0])


def total_macs(program: ClosedJaxpr, args: Sequence[Value]) -> int | None:
    """Return the multiply-accumulates of a program; None if they are not known."""
    costs: list[int | None] = []

    def add(step: Step) -> int:
        costs.append(step.cost)
        return -1

    walk(program, args, add)
    known = [cost for cost in costs if cost is not None]
    return sum(known) if len(known) == len(costs) else None


FLOWS: dict[str, Callable[..., control_flow.Flow]] = {
    "scan": control_flow.scan,
    "while": control_flow.while_loop,
    "cond": functools.partial(control_flow.cond, cost=total_macs),
}
"""Primitives that run programs as often as the data or a length say."""
