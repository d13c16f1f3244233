"""Equivariance: whether f commutes with a transformation of its input.

    error = ‖f(T x) − T′ f(x)‖ / ‖f(x)‖

with a transformation T of the input and T′ of the output. For invariance T′ is the identity.
"""

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.geometry import trace
from cnn.layers.combinators import train_argument
from cnn.ops import PaddingMode, Size
from cnn.probes.transforms import amounts, shift

ArrayFn = Callable[[Array], Array]
CALL = "__call__"


def layer_functions(
    model: nn.Module, variables: dict[str, Any], input_shape: Sequence[int]
) -> dict[str, ArrayFn]:
    """Return, for each module whose output is a map, the function from the input to that output.

    Args:
      model: any Linen module. It runs as in inference.
      variables: its parameters and state.
      input_shape: `(*spatial, channels)`.

    Returns:
      The functions by the modules' paths, in the order in which these end: the whole model, "",
      comes last. Of a module that runs several times, the last run counts.
    """

    def output(path: str, x: Array) -> Array:
        parts = tuple(path.split("/")) if path else ()
        _, state = model.apply(
            variables,
            x,
            capture_intermediates=lambda module, method: (*module.path, method) == (*parts, CALL),
            mutable=["intermediates"],
            **train_argument(model, False),
        )
        return flatten_dict(state["intermediates"])[(*parts, CALL)][-1]

    rank = len(input_shape)
    traces = trace(model, tuple(input_shape))
    return {
        path: functools.partial(output, path)
        for path, found in traces.items()
        if len(found.output) == rank
    }


def equivariance_error(
    f: ArrayFn,
    x: Float[Array, "batch *spatial c"],
    transform: ArrayFn,
    output_transform: ArrayFn | None = None,
    margin: Size = 0,
) -> Float[Array, ""]:
    """Return ‖f(T x) − T′ f(x)‖ / ‖f(x)‖, with norms over all inputs and positions.

    `transform` is T and `output_transform` T′, by default the same. The norms exclude the
    outermost `margin` output positions.
    """
    y = f(x)
    transformed, expected = f(transform(x)), (output_transform or transform)(y)
    if transformed.shape != expected.shape:
        raise InputError(
            f"f(T x) has shape {transformed.shape} but T' f(x) {expected.shape}: "
            "give the output_transform that belongs to the transform"
        )
    error = jnp.linalg.norm(_interior(transformed - expected, margin))
    return error / jnp.linalg.norm(_interior(y, margin))


def _interior(y: Array, margin: Size) -> Array:
    """Return `y` without its outermost positions, as a vector."""
    margins = ops.per_axis(margin, y.ndim - 2, "margin", least=0)
    interior = y[(slice(None), *(slice(m, -m or None) for m in margins))]
    if not interior.size:
        raise InputError(f"margin {margin!r} leaves no position of an output of shape {y.shape}")
    return interior.ravel()


def shift_error(
    f: ArrayFn,
    x: Float[Array, "batch *spatial c"],
    by: float | Sequence[float],
    strides: Size = 1,
    margin: Size = 0,
) -> Float[Array, ""]:
    """Return the equivariance error for a circular shift by `by` input positions.

    The output is shifted by `by / strides`, with the total strides of f. To exclude the effect of
    zero padding, give as `margin` |by| / strides plus the number of outputs that see the border.
    The error is exactly zero only if f sums in the same order at all positions. Compiled
    convolutions do not always: expect 1e-7, and 0.0 where no sum is rounded.
    """
    steps = ops.per_axis(strides, x.ndim - 2, "strides")
    after = [b / s for b, s in zip(amounts(by, len(steps)), steps, strict=True)]
    return equivariance_error(f, x, lambda x: shift(x, by), lambda y: shift(y, after), margin)


def invariance_error(
    f: ArrayFn, x: Float[Array, "batch *spatial c"], transform: ArrayFn
) -> Float[Array, ""]:
    """Return ‖f(T x) − f(x)‖ / ‖f(x)‖: how much `transform` changes the output."""
    return equivariance_error(f, x, transform, lambda y: y)


def shift_consistency(
    f: ArrayFn,
    x: Float[Array, "batch *spatial c"],
    max_shift: int,
    padding_mode: PaddingMode = "circular",
) -> Float[Array, ""]:
    """Return how often two shifts of one image are classified alike (Zhang 2019, section 4.1).

    The mean over inputs and all pairs of different shifts by −`max_shift` to `max_shift` along
    each axis; `padding_mode` says what comes in at the border. `f` returns logits
    `(batch, classes)`, and is called (2 · `max_shift` + 1)^rank times.
    """
    size = x.shape[1:-1]
    (reach,) = ops.per_axis(max_shift, 1, "max_shift")
    padded = ops.pad(x, ((reach, reach),) * len(size), padding_mode)
    classes = []
    for start in itertools.product(range(2 * reach + 1), repeat=len(size)):
        view = padded[(slice(None), *(slice(i, i + n) for i, n in zip(start, size, strict=True)))]
        classes.append(f(view).argmax(-1))
    predicted = jnp.stack(classes)
    shifts, inputs = predicted.shape
    # Each shift agrees with itself, which does not count.
    same = (predicted[:, None] == predicted[None]).sum() - shifts * inputs
    return same / (shifts * (shifts - 1) * inputs)
