"""What the outputs of each primitive see: maps of single numbers, windows, sums and products.

A rule gets and returns what one of `cnn.geometry.moves` does.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from jax.extend.core import JaxprEqn

from cnn.geometry.jaxpr import out_shapes
from cnn.geometry.moves import MOVES, Rule, see_all, window_positions
from cnn.geometry.seen import (
    NOTHING,
    Seen,
    broadcast,
    everything,
    follow,
    most_varied,
    reduced,
    sees,
    unclipped,
    union,
    windowed,
)
from cnn.geometry.value import Value

ELEMENTWISE = (
    *("abs", "acos", "acosh", "add", "add_any", "and", "asin", "asinh", "atan", "atan2", "atanh"),
    *("bessel_i0e", "bessel_i1e", "bitcast_convert_type", "cbrt", "ceil", "clamp", "clz"),
    *("complex", "conj", "cos", "cosh", "digamma", "div", "eq", "erf", "erf_inv", "erfc", "exp"),
    *("exp2", "expm1", "floor", "ge", "gt", "igamma", "igammac", "imag", "integer_pow"),
    *("is_finite", "le", "lgamma", "log", "log1p", "logistic", "lt", "max", "min", "mul", "ne"),
    *("neg", "nextafter", "not", "or", "polygamma", "population_count", "pow", "real"),
    *("regularized_incomplete_beta", "rem", "round", "rsqrt", "select_n", "shift_left"),
    *("shift_right_arithmetic", "shift_right_logical", "sign", "sin", "sinh", "sqrt", "square"),
    *("sub", "tan", "tanh", "xor", "zeta"),
)
"""Primitives whose outputs see what their operands see at the same place."""


def _elementwise(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    rank = len(out_shapes(eqn)[0])
    pairs = zip(operands, values, strict=True)
    return union([s if v.shape else everything(s, rank) for s, v in pairs])


def _conv(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    (seen, kernel), params = operands, eqn.params
    if sees(kernel) or params["batch_group_count"] > 1:
        return see_all(eqn, values, operands)
    numbers, out = params["dimension_numbers"], out_shapes(eqn)[0]
    mask = values[1].mask()
    spatial = zip(numbers.lhs_spec[2:], numbers.rhs_spec[2:], numbers.out_spec[2:], strict=True)
    for i, (axis, tap, place) in enumerate(spatial):
        positions, taps = window_positions(
            out[place],
            values[1].shape[tap],
            params["window_strides"][i],
            params["rhs_dilation"][i],
            params["padding"][i][0],
            params["lhs_dilation"][i],
        )
        if mask is not None:
            taps &= mask.any(tuple(a for a in range(mask.ndim) if a != tap + 1))
        step, rest = divmod(params["window_strides"][i], params["lhs_dilation"][i])
        size = values[0].shape[axis]
        seen = windowed(seen, axis, size, positions, taps, None if rest else step)
    channels, groups = numbers.lhs_spec[1], params["feature_group_count"]
    bounds = _channels(seen.bounds, channels, groups, out[numbers.out_spec[1]])
    places = dict(zip(numbers.out_spec, numbers.lhs_spec, strict=True))
    bounds = bounds.transpose(0, *(places[a] + 1 for a in range(len(out))))
    follows = None if seen.axis is None else numbers.out_spec[numbers.lhs_spec.index(seen.axis)]
    return follow(bounds, follows, seen.stride)


def _channels(bounds: np.ndarray, axis: int, groups: int, out: int) -> np.ndarray:
    """Combine the channels of each group; `out` channels see these."""
    line = np.moveaxis(bounds, axis + 1, -1)
    if groups == 1 or line.shape[-1] == 1:
        made = line.min(-1, keepdims=True)
    else:
        made = np.repeat(line.reshape(*line.shape[:-1], groups, -1).min(-1), out // groups, -1)
    return np.moveaxis(made, -1, axis + 1)


def _reduce_window(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    params, rank = eqn.params, len(values[0].shape)
    seen = union(operands[: len(eqn.outvars)])
    for axis, window in enumerate(params["window_dimensions"]):
        low, high = params["padding"][axis]
        stride = params["window_strides"][axis]
        if (window, stride, low, high) == (1, 1, 0, 0):
            continue
        dilation = (params.get("window_dilation") or (1,) * rank)[axis]
        between = (params.get("base_dilation") or (1,) * rank)[axis]
        out = out_shapes(eqn)[0][axis]
        places = window_positions(out, window, stride, dilation, low, between)
        step, rest = divmod(stride, between)
        seen = windowed(seen, axis, values[0].shape[axis], *places, None if rest else step)
    return seen


def _cumulate(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    seen, axis = operands[0], eqn.params["axis"]
    bounds = broadcast(seen.bounds, values[0].shape)
    order = np.flip if eqn.params["reverse"] else lambda x, axis: x
    made = order(np.minimum.accumulate(order(bounds, axis + 1), axis + 1), axis + 1)
    return follow(made, seen.axis, seen.stride)


# Sums and products


def _dot(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    dependent = [i for i in (0, 1) if values[i].from_input]
    return union([_side(eqn, values, operands[i], i) for i in dependent])


def _side(eqn: JaxprEqn, values: list[Value], seen: Seen, i: int) -> Seen:
    """Return what a product sees through operand `i`. It does not see what the other masks."""
    contracted, batch = eqn.params["dimension_numbers"]
    used = [(*contracted[j], *batch[j]) for j in (0, 1)]
    free = [[a for a in range(len(values[j].shape)) if a not in used[j]] for j in (0, 1)]
    starts = [len(batch[0]), len(batch[0]) + len(free[0])]  # of the free axes in the output

    def arrange(bounds: np.ndarray, j: int) -> np.ndarray:
        """Return bounds of operand `j` with the axes of the output, then those contracted."""
        order = (*batch[j], *free[j], *contracted[j])
        bounds = bounds.transpose(0, *(a + 1 for a in order))
        return np.expand_dims(bounds, [1 + starts[1 - j] + a for a in range(len(free[1 - j]))])

    made, mask = arrange(seen.bounds, i), values[1 - i].mask()
    if mask is not None:
        made = np.where(arrange(mask, 1 - i), made, NOTHING)
    rank = len(batch[i]) + len(free[0]) + len(free[1])
    made = made.min(tuple(range(rank + 1, made.ndim)), initial=NOTHING)
    # Along the other operand's axes the units are different ones, even if they see the same.
    full = list(made.shape[1:])
    full[starts[1 - i] : starts[1 - i] + len(free[1 - i])] = [
        values[1 - i].shape[a] for a in free[1 - i]
    ]
    made = broadcast(made, full)
    if seen.axis in free[i]:
        return follow(made, starts[i] + free[i].index(seen.axis), seen.stride)
    if seen.axis in batch[i]:
        return follow(made, list(batch[i]).index(seen.axis), seen.stride)
    return unclipped(follow(made, None if mask is None else most_varied(made, range(rank))))


def _reduce(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
    axes = [int(a) for a in eqn.params["axes"]]
    seen = reduced(union(operands), axes)
    bounds = seen.bounds.squeeze(tuple(a + 1 for a in axes))
    follows = None if seen.axis is None else seen.axis - sum(a < seen.axis for a in axes)
    return follow(bounds, follows, seen.stride)


def _mix_along(axes: Callable[[JaxprEqn, int], Sequence[int]]) -> Rule:
    """Return the rule of a primitive whose outputs along `axes` depend on all inputs along them."""

    def rule(eqn: JaxprEqn, values: list[Value], operands: list[Seen]) -> Seen:
        shape = out_shapes(eqn)[0]
        along = [a % len(shape) for a in axes(eqn, len(shape))]
        seen = reduced(union(operands), along)
        full = [
            n if a in along else m
            for a, (n, m) in enumerate(zip(shape, seen.bounds.shape[1:], strict=True))
        ]
        return follow(broadcast(seen.bounds, full), seen.axis, seen.stride)

    return rule


RULES: dict[str, Rule] = {
    **dict.fromkeys(ELEMENTWISE, _elementwise),
    **MOVES,
    "conv_general_dilated": _conv,
    **{f"reduce_window{kind}": _reduce_window for kind in ("", "_max", "_min", "_sum")},
    **{f"cum{kind}": _cumulate for kind in ("sum", "prod", "max", "min", "logsumexp")},
    "dot_general": _dot,
    **{f"reduce_{kind}": _reduce for kind in ("sum", "max", "min", "prod", "and", "or", "xor")},
    **dict.fromkeys(("reduce", "argmax", "argmin"), _reduce),
    "sort": _mix_along(lambda eqn, rank: [eqn.params["dimension"]]),
    "top_k": _mix_along(lambda eqn, rank: [eqn.params.get("axis", -1)]),
    "fft": _mix_along(lambda eqn, rank: range(-len(eqn.params["fft_lengths"]), 0)),
}
"""The rule of each primitive. What another primitive sees is not known."""
