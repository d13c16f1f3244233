"""Multiply-accumulates of an equation."""

from __future__ import annotations

import functools
import math

import numpy as np
from jax.extend.core import JaxprEqn

from cnn.geometry.jaxpr import out_shapes
from cnn.geometry.rules import window_positions
from cnn.geometry.seen import NOTHING
from cnn.geometry.value import Value


def macs(eqn: JaxprEqn, operands: list[Value]) -> int:
    """Return the multiply-accumulates of a convolution or product; 0 for other equations.

    One for each kernel element and output. Padding counts, as in the literature. Zeros that are
    inserted between inputs, and masked weights, do not.
    """
    match eqn.primitive.name:
        case "conv_general_dilated":
            total = _conv(eqn, operands)
        case "dot_general":
            (contracted, _), _ = eqn.params["dimension_numbers"]
            total = math.prod(operands[0].shape[a] for a in contracted)
            total *= math.prod(out_shapes(eqn)[0])
        case _:
            return 0
    for value in operands:
        total = _without_zeros(total, value) if value.from_input else value.used(total)
    return total


def _without_zeros(total: int, value: Value) -> int:
    """Return how many of `total` products, equally many of each entry, are of no inserted zero."""
    if not value.seen:
        return total
    kept = functools.reduce(np.logical_or, [seen.bounds[0] < NOTHING for seen in value.seen])
    return total * int(kept.sum()) // kept.size


def _conv(eqn: JaxprEqn, operands: list[Value]) -> int:
    params, out = eqn.params, out_shapes(eqn)[0]
    numbers, kernel = params["dimension_numbers"], operands[1].shape
    total = out[numbers.out_spec[0]] * out[numbers.out_spec[1]] * kernel[numbers.rhs_spec[1]]
    for i, (tap, place) in enumerate(zip(numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)):
        between = params["lhs_dilation"][i]
        if between == 1:
            total *= out[place] * kernel[tap]
            continue
        strides, dilation = params["window_strides"][i], params["rhs_dilation"][i]
        low = params["padding"][i][0]
        _, taps = window_positions(out[place], kernel[tap], strides, dilation, low, between)
        total *= int(taps.sum())
    return total
