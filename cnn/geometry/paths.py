"""The number of paths from the input to each entry of a value, if all weights are equal."""

from __future__ import annotations

import math
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cnn.errors import InputError
from cnn.geometry.jaxpr import aval, out_shapes
from cnn.geometry.moves import MOVES, SAME
from cnn.geometry.rules import ELEMENTWISE
from cnn.geometry.value import Value
from cnn.geometry.walk import Step

Paths = Array | None
"""None for a value that the input does not change."""


def follow_paths(step: Step, paths: list[Paths]) -> list[Array]:
    """Return the paths to the outputs of an equation, from those to its operands.

    Weights count as equal and positive. Windows and reductions become sums, and so do functions of
    single numbers of several features.
    """
    eqn, values = step.eqn, step.operands
    name, params = eqn.primitive.name, eqn.params
    given = [y for y in paths if y is not None]
    if len(given) < sum(value.from_input for value in values):
        raise InputError("paths through a loop cannot be counted: choose a layer before it")
    if not jnp.issubdtype(aval(eqn.outvars[0]).dtype, jnp.inexact):  # no gradient flows through it
        return [jnp.zeros(shape) for shape in out_shapes(eqn)]
    if name == "conv_general_dilated" and paths[1] is None:
        fan_in = params["dimension_numbers"].rhs_spec[1:]
        return [_product(eqn, values, paths, math.prod(values[1].shape[a] for a in fan_in))]
    if name == "dot_general" and len(given) == 1:
        (contracted, _), _ = params["dimension_numbers"]
        return [_product(eqn, values, paths, math.prod(values[0].shape[a] for a in contracted))]
    if name.startswith("reduce_window"):
        return [_sum_windows(given[0], params)]
    if name == "optimization_barrier":
        both = zip(paths, values, strict=True)
        return [jnp.zeros(v.shape) if y is None else y for y, v in both]
    if name in SAME:
        return given
    if name in MOVES:
        return _move(eqn, values, paths)
    if name.startswith("reduce_"):
        return [_total(given).sum([int(axis) for axis in params["axes"]])]
    if name in ELEMENTWISE:
        shape = out_shapes(eqn)[0]
        return [_total([jnp.broadcast_to(y, shape) for y in given])]
    raise InputError(f"paths through {name} cannot be counted: choose a layer before it")


def _total(paths: list[Array]) -> Array:
    return jnp.sum(jnp.stack(paths), 0)


def _product(eqn: JaxprEqn, values: list[Value], paths: list[Paths], fan_in: int) -> Array:
    """Apply a convolution or product with equal weights, scaled so that nothing overflows."""
    both = zip(paths, values, strict=True)
    operands = [_kept(value) / fan_in if y is None else y for y, value in both]
    return eqn.primitive.bind(*operands, **eqn.params | {"preferred_element_type": None})


def _kept(weight: Value) -> Array:
    """Return 1 for each weight that is not masked, else 0."""
    mask = weight.mask()
    ones = jnp.ones(weight.shape)
    return ones if mask is None else ones * mask[0]


def _sum_windows(paths: Array, params: dict[str, Any]) -> Array:
    ones = (1,) * paths.ndim
    return lax.reduce_window(
        paths,
        0.0,
        lax.add,
        params["window_dimensions"],
        params["window_strides"],
        params["padding"],
        params.get("base_dilation") or ones,
        params.get("window_dilation") or ones,
    )


def _move(eqn: JaxprEqn, values: list[Value], paths: list[Paths]) -> list[Array]:
    """Move the paths as the data. None lead to entries that the input does not change."""
    operands = []
    for y, value in zip(paths, values, strict=True):
        known = None if value.constant is None else jnp.asarray(value.constant())
        indices = known is not None and jnp.issubdtype(known.dtype, jnp.integer)
        operands.append(y if y is not None else known if indices else jnp.zeros(value.shape))
    made = eqn.primitive.bind(*operands, **eqn.params)
    return list(made) if eqn.primitive.multiple_results else [made]
