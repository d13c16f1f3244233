"""Run a program with other functions in the place of some of its equations."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
from flax import struct
from jax.extend.core import ClosedJaxpr, JaxprEqn, Literal, Var
from jaxtyping import Array

from cnn.ablations.values import Key
from cnn.geometry.jaxpr import called, evaluate


class Stacked(struct.PyTreeNode):
    """A value for each of the positions, row by row along its first axis."""

    value: Array
    positions: tuple[int, ...] = struct.field(pytree_node=False)


Operand = Any
"""An array, a `Stacked`, or None: what follows from a parameter that another function takes in."""


def run(
    program: ClosedJaxpr,
    operands: Sequence[Operand],
    instead: Mapping[Key, Callable[..., Operand]],
    path: Key = (),
) -> list[Operand]:
    """Return the results of a program, with `instead[key]` in the place of the equation at a key.

    Other equations map over the positions of a `Stacked` operand. They keep their derivatives.
    """
    jaxpr = program.jaxpr
    known: dict[Var, Operand] = dict(zip(jaxpr.invars, operands, strict=True))
    known |= dict(zip(jaxpr.constvars, program.consts, strict=True))

    def look_up(variable: Var | Literal) -> Operand:
        return variable.val if isinstance(variable, Literal) else known[variable]

    for number, eqn in enumerate(jaxpr.eqns):
        key, ins = (*path, number), [look_up(v) for v in eqn.invars]
        if key in instead:
            results = [instead[key](*ins)]
        elif (inner := called(eqn)) and any(other[: len(key)] == key for other in instead):
            results = _call(eqn, ins, partial(run, inner, instead=instead, path=key))
        elif any(x is None for x in ins):
            results = [None] * len(eqn.outvars)
        elif any(isinstance(x, Stacked) for x in ins):
            results = _stacked(eqn, ins)
        else:
            results = evaluate(eqn, *ins)
        known.update(zip(eqn.outvars, results, strict=True))
    return [look_up(v) for v in jaxpr.outvars]


def _call(
    eqn: JaxprEqn, operands: list[Operand], function: Callable[[list[Operand]], list[Operand]]
) -> list[Operand]:
    """Apply `function` in the place of a call. What a checkpoint recomputes stays so."""
    if "prevent_cse" in eqn.params:
        options = {name: eqn.params[name] for name in ("prevent_cse", "policy")}
        function = jax.checkpoint(function, **options)
    return function(operands)


def _stacked(eqn: JaxprEqn, operands: list[Operand]) -> list[Operand]:
    """Return the results of an equation at each position."""
    positions = next(x.positions for x in operands if isinstance(x, Stacked))
    axes = [0 if isinstance(x, Stacked) else None for x in operands]
    values = [x.value if isinstance(x, Stacked) else x for x in operands]
    results = jax.vmap(partial(evaluate, eqn), in_axes=axes)(*values)
    return [Stacked(y, positions) for y in results]


def unstack(value: Operand) -> Array:
    """Return an array; a `Stacked` one with an axis for each axis of positions."""
    if not isinstance(value, Stacked):
        return value
    return value.value.reshape(*value.positions, *value.value.shape[1:])
