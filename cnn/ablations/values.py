"""What is known of the values of a program: what they depend on, and where they come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
from jax.extend.core import JaxprEqn

from cnn.geometry.jaxpr import evaluate, moved_axes

Key = tuple[int, ...]
"""The place of an equation: its number in the program, in the call that this is, and so on."""


class Value(NamedTuple):
    """What is known of a value."""

    leaves: frozenset[int] = frozenset()
    """The parameters that it depends on, where it does not depend on data."""
    data: bool = False
    source: int | Key | None = None
    """The parameter, or the convolution or sum over windows, that it is, moved."""
    axes: tuple[int | None, ...] = ()
    """Where each axis of the source is now."""
    through: str = ""
    """The first computation between the parameters and it."""
    constant: Callable[[], Any] | None = None
    """Computes it, where it depends on nothing."""


DATA = Value(data=True)


def constant(value: Any) -> Value:
    """Return what is known of a constant of a program; one that is traced elsewhere is data."""
    return DATA if isinstance(value, jax.core.Tracer) else Value(constant=lambda: value)


def result_of(eqn: JaxprEqn, values: list[Value]) -> Value:
    """Return what is known of the results of an equation from its operands alone."""
    constants = [value.constant for value in values]
    if None not in constants:

        def compute() -> Any:
            with jax.ensure_compile_time_eval():
                return evaluate(eqn, *(c() for c in constants if c is not None))[0]

        return Value(constant=compute if len(eqn.outvars) == 1 else None)
    data = any(value.data for value in values)
    axes = moved_axes(eqn)
    if axes is not None and values[0].source is not None:
        return values[0]._replace(
            axes=tuple(None if a is None else axes[a] for a in values[0].axes)
        )
    if data:
        return DATA
    through = next((v.through for v in values if v.through), eqn.primitive.name)
    return Value(frozenset[int]().union(*(v.leaves for v in values)), through=through)
