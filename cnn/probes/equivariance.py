"""Equivariance: does it matter whether the input is moved, or the output?

    error = ‖f(T x) − T′ f(x)‖ / ‖f(x)‖

for a motion T of the input and what should become of it at the output, T′. Invariance asks for a
T′ that does nothing.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError
from cnn.layers.tree import join, parts
from cnn.ops import PaddingMode, Size
from cnn.probes.transforms import amounts, shift

Map = Callable[[Array], Array]


def layer_functions(
    model: nn.Module, variables: dict[str, Any], input_shape: Sequence[int]
) -> dict[str, Map]:
    """Return, by the name of each layer with a map as output, the function from input to output.

    Names are those of `cnn.layers.tree`, layers made of layers after their parts and the whole
    model, as "", last. `input_shape` is `(*spatial, channels)`; outputs without spatial axes have
    no function here. A layer is called as for inference.
    """
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)

    def run(capture: Callable[[nn.Module, str], bool], x: Array) -> dict[tuple[str, ...], Any]:
        _, state = model.apply(
            variables, x, capture_intermediates=capture, mutable=["intermediates"]
        )
        return flatten_dict(state["intermediates"])

    def output(path: tuple[str, ...], x: Array) -> Array:
        calls = run(lambda layer, method: (*layer.path, method) == path, x)
        return calls[path][-1]

    calls = jax.eval_shape(functools.partial(run, lambda _, method: method == "__call__"), x)
    paths = {name: (*filter(None, name.split("/")), "__call__") for name in _names(model)}
    return {
        name: functools.partial(output, path)
        for name, path in paths.items()
        if path in calls and calls[path][-1].ndim == x.ndim
    }


def _names(model: nn.Module, path: str = "") -> list[str]:
    inside = parts(model).items()
    return [n for name, part in inside for n in _names(part, join(path, name))] + [path]


def equivariance_error(
    f: Map,
    x: Float[Array, "batch *spatial c"],
    transform: Map,
    output_transform: Map | None = None,
    margin: Size = 0,
) -> Float[Array, ""]:
    """Return ‖f(T x) − T′ f(x)‖ / ‖f(x)‖, norms over all inputs and positions.

    `transform` is T, `output_transform` T′, the same as T if not given. The outermost `margin`
    positions of the output are left out of all norms.
    Raises `InputError` if f(T x) and T′ f(x) differ in shape, or the margin leaves nothing.
    """
    y = f(x)
    moved_before, moved_after = f(transform(x)), (output_transform or transform)(y)
    if moved_before.shape != moved_after.shape:
        raise InputError(
            f"f(T x) has shape {moved_before.shape} but T' f(x) {moved_after.shape}: "
            "give the output_transform that belongs to the transform"
        )
    return jnp.linalg.norm(_inner(moved_before - moved_after, margin)) / jnp.linalg.norm(
        _inner(y, margin)
    )


def _inner(y: Array, margin: Size) -> Array:
    """Leave out the outermost positions, and return the rest as a vector."""
    margins = ops.per_axis(margin, y.ndim - 2, "margin", least=0)
    inner = y[(slice(None), *(slice(m, -m or None) for m in margins))]
    if not inner.size:
        raise InputError(f"margin {margin!r} leaves nothing of an output of shape {y.shape}")
    return inner.ravel()


def shift_error(
    f: Map,
    x: Float[Array, "batch *spatial c"],
    by: float | Sequence[float],
    strides: Size = 1,
    margin: Size = 0,
) -> Float[Array, ""]:
    """Return the equivariance error for a shift by `by` input positions (`cnn.probes.shift`).

    `strides` are the effective strides of f, so the output moves by `by / strides`: a shift of 1
    becomes half a position at stride 2. Input and output move around their borders, which is where
    a network that pads with zeros differs. These differences are taken along: they are left out
    by a margin of at least |by| / strides plus the outputs that see the border.

    Exactly zero only if f sums in the same order at all positions, which compiled convolutions
    need not do: expect 1e-7, and 0.0 for weights and inputs whose sums have no rounding error.
    """
    steps = ops.per_axis(strides, x.ndim - 2, "strides")
    after = [b / s for b, s in zip(amounts(by, len(steps)), steps, strict=True)]
    return equivariance_error(f, x, lambda x: shift(x, by), lambda y: shift(y, after), margin)


def invariance_error(
    f: Map, x: Float[Array, "batch *spatial c"], transform: Map
) -> Float[Array, ""]:
    """Return ‖f(T x) − f(x)‖ / ‖f(x)‖: how far `transform` moves the output."""
    return equivariance_error(f, x, transform, lambda y: y)


def shift_consistency(
    f: Map,
    x: Float[Array, "batch *spatial c"],
    max_shift: int,
    padding_mode: PaddingMode = "circular",
) -> Float[Array, ""]:
    """Return how often two shifts of an image are given the same class (Zhang 2019, section 4.1).

    `f` returns `(batch, classes)`. The share is taken over the inputs and all pairs of different
    shifts by −`max_shift` to `max_shift` along each axis: (2 · `max_shift` + 1)^rank calls of f.
    `padding_mode` says what comes in at the border.
    Raises `InputError` if `max_shift` is below 1 or too large for the mode.
    """
    size = x.shape[1:-1]
    (reach,) = ops.per_axis(max_shift, 1, "max_shift")
    wide = ops.pad(x, ((reach, reach),) * len(size), padding_mode)
    classes = []
    for start in itertools.product(range(2 * reach + 1), repeat=len(size)):
        view = wide[(slice(None), *(slice(i, i + n) for i, n in zip(start, size, strict=True)))]
        classes.append(f(view).argmax(-1))
    given = jnp.stack(classes)
    shifts, inputs = given.shape
    same = (given[:, None] == given[None]).sum() - shifts * inputs  # each agrees with itself
    return same / (shifts * (shifts - 1) * inputs)
