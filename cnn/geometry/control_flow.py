"""What the outputs of loops and branches see."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from jax.extend.core import ClosedJaxpr, JaxprEqn

from cnn.geometry.jaxpr import out_shapes
from cnn.geometry.seen import everything, follow, most_varied, union
from cnn.geometry.value import Value

SCAN_LIMIT = 20_000
"""Equations in all steps together of the longest scan that is followed."""
LOOP_LIMIT = 100
"""Steps after which what a loop sees has to stay the same."""

Run = Callable[[ClosedJaxpr, Sequence[Value], int], list[Value]]
"""Returns the outputs of a program. Its equations are visited for as many runs, if any."""


class Flow(NamedTuple):
    """The outputs of a loop or branch, and whether its equations were visited on their own."""

    outputs: list[Value]
    visited: bool


def scan(eqn: JaxprEqn, operands: list[Value], run: Run) -> Flow:
    """Follow a scan step by step. The last step is visited, for all of them."""
    params, program = eqn.params, eqn.params["jaxpr"]
    length, n_consts, n_carry = params["length"], params["num_consts"], params["num_carry"]
    if not 0 < length * len(program.jaxpr.eqns) <= SCAN_LIMIT:
        return _not_known(eqn)
    consts, carry = operands[:n_consts], operands[n_consts : n_consts + n_carry]
    made = []
    for step in range(length):
        t = length - 1 - step if params["reverse"] else step
        now = [_entry(value, t) for value in operands[n_consts + n_carry :]]
        outputs = run(program, [*consts, *carry, *now], length if step == length - 1 else 0)
        carry = outputs[:n_carry]
        made.append(outputs[n_carry:])
    if params["reverse"]:
        made.reverse()
    return Flow([*carry, *map(_stacked, zip(*made, strict=True))], True)


def _entry(value: Value, t: int) -> Value:
    """Return entry `t` of a value along its first axis."""
    mask, compute = value.nonzero, value.constant
    seen = []
    for s in value.seen:
        bounds = s.bounds[:, min(t, s.bounds.shape[1] - 1)]
        seen.append(follow(bounds, s.axis - 1 if s.axis else None, s.stride))
    return value._replace(
        shape=value.shape[1:],
        seen=tuple(seen),
        nonzero=None if mask is None else mask[:, min(t, mask.shape[1] - 1)],
        constant=None if compute is None else lambda: compute()[t],
    )


def _stacked(values: Sequence[Value]) -> Value:
    """Return values as one, with a new first axis."""
    joined = join(values)
    axes = []
    for i in range(len(joined.seen)):
        parts = [value.sees(i) for value in values]
        shape = np.max([s.bounds.shape for s in parts], 0)
        bounds = np.stack([np.broadcast_to(s.bounds, shape) for s in parts], 1)
        axis = joined.seen[i].axis
        follows = most_varied(bounds, [0]) if axis is None else axis + 1
        axes.append(follow(bounds, follows, joined.seen[i].stride))
    return joined._replace(shape=(len(values), *joined.shape), seen=tuple(axes))


def while_loop(eqn: JaxprEqn, operands: list[Value], run: Run) -> Flow:
    """Repeat the loop's body until what it sees stays the same. Its cost is not known."""
    n_test, n_body = eqn.params["cond_nconsts"], eqn.params["body_nconsts"]
    for_test, for_body = operands[:n_test], operands[n_test : n_test + n_body]
    # A constant changes from step to step.
    state = [v._replace(constant=None, nonzero=None) for v in operands[n_test + n_body :]]
    for _ in range(LOOP_LIMIT):
        (more,) = run(eqn.params["cond_jaxpr"], [*for_test, *state], 0)
        after = run(eqn.params["body_jaxpr"], [*for_body, *state], 0)
        joined = [_chosen_by(more, join(pair)) for pair in zip(state, after, strict=True)]
        if all(map(_sees_same, state, joined)):
            return Flow(joined, False)
        state = joined
    return _not_known(eqn)


def cond(
    eqn: JaxprEqn,
    operands: list[Value],
    run: Run,
    cost: Callable[[ClosedJaxpr, Sequence[Value]], int | None],
) -> Flow:
    """Join what the branches see. The first is visited if all have the same known `cost`."""
    index, *args = operands
    branches = eqn.params["branches"]
    if index.constant is not None:
        taken = int(np.clip(int(index.constant()), 0, len(branches) - 1))
        return Flow(run(branches[taken], args, 1), True)
    costs = {cost(branch, args) for branch in branches}
    alike = len(costs) == 1 and None not in costs
    made = [run(branch, args, int(alike and not i)) for i, branch in enumerate(branches)]
    return Flow([_chosen_by(index, join(each)) for each in zip(*made, strict=True)], alike)


def join(values: Sequence[Value]) -> Value:
    """Return what is known of a value that is one of several."""
    unknown = next((v.unknown for v in values if v.unknown), "")
    seen = [
        union([value.seen[i] for value in values if value.seen])
        for i in range(0 if unknown else max(len(value.seen) for value in values))
    ]
    leaves = frozenset[int]().union(*(value.leaves for value in values))
    row = max(value.row for value in values)
    key = object() if any(value.from_input for value in values) else None
    return Value(values[0].shape, tuple(seen), unknown, leaves, row=row, key=key)


def _chosen_by(index: Value, value: Value) -> Value:
    """Return `value` if a number, perhaps computed from the input, chose it."""
    if not index.from_input or value.unknown:
        return value
    rank = len(value.shape)
    seen = [union([value.sees(i), everything(s, rank)]) for i, s in enumerate(index.seen)]
    return value._replace(seen=tuple(seen), unknown=index.unknown, constant=None, key=object())


def _sees_same(a: Value, b: Value) -> bool:
    pairs = zip(a.seen, b.seen, strict=False)
    same = all(np.array_equal(x.bounds, y.bounds) for x, y in pairs)
    return same and a.unknown == b.unknown and len(a.seen) == len(b.seen)


def _not_known(eqn: JaxprEqn) -> Flow:
    unknown = eqn.primitive.name
    return Flow([Value(shape, unknown=unknown, key=object()) for shape in out_shapes(eqn)], False)
