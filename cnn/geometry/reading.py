"""Read the program of a network: its layers, and its equations one after another."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend.core import ClosedJaxpr
from jaxtyping import Array, PyTree

from cnn.errors import InputError
from cnn.geometry.jaxpr import leaf_names
from cnn.geometry.rows import Rows
from cnn.geometry.seen import pixels
from cnn.geometry.trace import Shape, abstract_variables, module_types
from cnn.geometry.value import Value
from cnn.geometry.walk import Step, walk
from cnn.layers.combinators import train_argument
from cnn.ops.implementations import use

Function = Callable[[PyTree, Array], Any]


class Reading(NamedTuple):
    """The layers of a program, and its equations in order, those of called programs in line."""

    x: Value
    rows: Rows
    steps: list[tuple[Step, int]]
    """Each with the index of its row, without the bounds of what its values see."""
    outputs: list[Value]


def read_model(model: nn.Module, input_shape: Shape, variables: PyTree = None) -> Reading:
    """Read a Linen module, as in inference. Those of its `variables` in "params" are trained."""
    if variables is None:
        variables = abstract_variables(model, input_shape)

    def f(variables: PyTree, x: Array) -> Any:
        return model.apply(variables, x, **train_argument(model, False))

    types, program = module_types(lambda: trace_program(f, variables, input_shape))
    paths = leaf_names(variables)
    trained = {i for i, path in enumerate(paths) if path.startswith("params/")}
    names = [path.partition("/")[2] for path in paths]
    return _read(program, input_shape, Rows(names, _sizes(variables), trained, types))


def read_function(f: Function, params: PyTree, input_shape: Shape) -> Reading:
    """Read a function of parameters, all of which are trained, and of a batch of inputs."""
    names, leaves = leaf_names(params), jax.tree.leaves(params)
    for path, leaf in zip(names, leaves, strict=True):
        if not hasattr(leaf, "shape"):
            raise InputError(f"params must hold arrays alone, got {leaf!r} at {path}: split it off")
    program = trace_program(f, params, input_shape)
    return _read(program, input_shape, Rows(names, _sizes(params), range(len(leaves))))


def _sizes(tree: PyTree) -> list[int]:
    return [math.prod(leaf.shape) for leaf in jax.tree.leaves(tree)]


def trace_program(f: Function, params: PyTree, input_shape: Shape) -> ClosedJaxpr:
    """Return the program of `f` for a batch of one input, with the definitions of `cnn.ops`."""
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    try:
        with use("reference"):
            # A new function object, so that JAX does not reuse an earlier trace.
            return jax.make_jaxpr(lambda params, x: f(params, x))(params, x)
    except (jax.errors.ConcretizationTypeError, jax.errors.NonConcreteBooleanIndexError) as error:
        line = str(error).splitlines()[0]
        raise InputError(f"a shape or a branch of the function depends on data: {line}") from error


def _read(program: ClosedJaxpr, input_shape: Shape, rows: Rows) -> Reading:
    *weights, image = program.in_avals
    rank, steps = len(image.shape), list[tuple[Step, int]]()
    seen = tuple(pixels(n, axis, rank) for axis, n in enumerate(input_shape[:-1], 1))
    x = Value(image.shape, seen, key=object())

    def visit(step: Step) -> int:
        row = rows.record(step)
        operands, outputs = map(_without_bounds, (step.operands, step.outputs))
        steps.append((step._replace(operands=operands, outputs=outputs), row))
        return row

    args = [Value(w.shape, leaves=frozenset([i])) for i, w in enumerate(weights)]
    with jax.ensure_compile_time_eval():  # of constants, also while JAX traces another program
        outputs = walk(program, [*args, x], visit)
    return Reading(x, rows, steps, outputs)


def _without_bounds(values: list[Value]) -> list[Value]:
    none = np.empty((4, 0), np.int32)
    return [v._replace(seen=tuple(s._replace(bounds=none) for s in v.seen)) for v in values]


def checked_shape(input_shape: Sequence[int]) -> Shape:
    """Return the shape of an input, `(*spatial, channels)`, as a tuple."""
    shape = tuple(input_shape)
    if not shape or not all(isinstance(n, int) and n >= 1 for n in shape):
        raise InputError(f"input_shape must be (*spatial, channels), each ≥ 1, got {input_shape}")
    return shape
