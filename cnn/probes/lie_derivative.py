"""Lie derivative: how fast equivariance is lost under a small motion (Gruver et al. 2023).

    L f(x) = d/dt [T′(−t) f(T(t) x)] at t = 0 = df(x) · X x − X′ f(x)

with T(t) a motion of the input by t, T′ the same motion of the output, and X, X′ their derivatives
at t = 0. It is zero for all x if and only if f is equivariant. Of a composition it is a sum, one
term for each layer:

    L (f_n ∘ … ∘ f_1)(x) = Σ_i d(f_n ∘ … ∘ f_{i+1}) · L f_i (x_{i−1})

X x is computed from the derivatives of the trigonometric interpolation of x. They are exact for a
periodic image of frequencies below half the sampling rate, and hence for translations of all
images. For other motions an image should vanish towards the border; `low_pass` removes its high
frequencies. A nonlinearity makes new ones, which is why it may contribute (aliasing).
"""

import math
from collections.abc import Iterator
from functools import partial
from typing import Any, Literal, get_args

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array, Float

from cnn import ops
from cnn.errors import InputError, unknown_name
from cnn.geometry import describe
from cnn.layers import Chain
from cnn.layers.combinators import train_argument
from cnn.layers.tree import children, join_path
from cnn.ops import Size
from cnn.probes.equivariance import ArrayFn

Motion = Literal["translation", "rotation", "scaling", "hyperbolic"]
"""A motion by t: t positions along an axis, t radians, the factor e^t, a hyperbolic rotation by t.

All but the translation leave the centre in place. Rotations need two axes.
"""


def low_pass(
    x: Float[Array, "batch *spatial c"], keep: float = 0.5
) -> Float[Array, "batch *spatial c"]:
    """Return `x` without its frequencies above `keep` times the highest one, on each axis."""
    if not 0 < keep <= 1:
        raise InputError(f"keep must be above 0 and at most 1, got {keep}")
    for axis in range(1, x.ndim - 1):
        n = x.shape[axis]
        mask = jnp.expand_dims(jnp.fft.rfftfreq(n) <= keep / 2, _others(x, axis))
        x = jnp.fft.irfft(jnp.fft.rfft(x, axis=axis) * mask, n, axis).astype(x.dtype)
    return x


def lie_generator(
    x: Float[Array, "batch *spatial c"], motion: Motion, axis: int = 0
) -> Float[Array, "batch *spatial c"]:
    """Return X x, the derivative of the moved `x` at rest: −Σ_a v_a(p) · ∂x/∂p_a.

    Args:
      motion: v(p) is e_axis for the translation; with p = (u, v) from the centre of the map, it is
        (−v, u) for the rotation, p for the scaling and (v, u) for the hyperbolic rotation.
      axis: The spatial axis of a translation, from 0 on.
    """
    size = x.shape[1:-1]
    if motion not in get_args(Motion):
        raise unknown_name("motion", motion, get_args(Motion))
    if motion in ("rotation", "hyperbolic") and len(size) != 2:
        raise InputError(f"motion {motion!r} needs 2 spatial axes, got shape {x.shape}")
    if not 0 <= axis < len(size):
        raise InputError(f"axis must be from 0 to {len(size) - 1}, got {axis}")
    if motion == "translation":
        return -_derivative(x, axis + 1)
    places = [
        jnp.expand_dims(jnp.arange(n, dtype=x.dtype) - (n - 1) / 2, _others(x, a))
        for a, n in enumerate(size, 1)
    ]
    if motion == "scaling":
        velocity = places
    else:
        velocity = [-places[1] if motion == "rotation" else places[1], places[0]]
    moved = jnp.zeros_like(x)
    for a, v in enumerate(velocity, 1):
        moved = moved - v * _derivative(x, a)
    return moved


def lie_derivative(
    f: ArrayFn,
    x: Float[Array, "batch *spatial c"],
    motion: Motion,
    axis: int = 0,
    strides: Size = 1,
) -> Array:
    """Return L f(x), of the shape of f(x).

    A vector `(batch, units)` should not change at all. A map should move as the input does, by
    t / `strides` for a translation, with the total strides of f.
    """
    steps = ops.per_axis(strides, x.ndim - 2, "strides")
    y, moved = jax.jvp(f, (x,), (lie_generator(x, motion, axis),))
    if y.ndim == 2:
        return moved
    if y.ndim != x.ndim:
        raise InputError(f"f must return vectors or maps of {x.ndim - 2} axes, got shape {y.shape}")
    expected = lie_generator(y, motion, axis)
    return moved - (expected / steps[axis] if motion == "translation" else expected)


def lie_error(
    f: ArrayFn,
    x: Float[Array, "batch *spatial c"],
    motion: Motion,
    axis: int = 0,
    strides: Size = 1,
) -> Float[Array, ""]:
    """Return E |L f(x)|² / dim f(x), the local equivariance error, a mean over the inputs.

    It is the squared form of the paper. The paper's public code reports the mean absolute value of
    the derivative of the class probabilities instead.
    """
    return jnp.square(lie_derivative(f, x, motion, axis, strides)).mean()


def layerwise_lie_error(
    model: Chain,
    variables: dict[str, Any],
    x: Float[Array, "batch *spatial c"],
    motion: Motion,
    axis: int = 0,
) -> dict[str, Float[Array, ""]]:
    """Return E |d(f_n ∘ … ∘ f_{i+1}) · L f_i|² / dim of the output, by the name of layer i.

    Args:
      model: A chain of layers, in which chains may be nested. It runs as in inference.
      variables: Its parameters and state.
      x: Inputs.
      motion: The motion of all maps; see `lie_generator`.
      axis: The axis of a translation.

    Raises:
      InputError: If the model is no chain, or the strides of a layer are not known.
    """
    terms: dict[str, Array] = {}
    distance = 1.0  # between two positions of the map, in those of the input
    for name, layer in _steps(model, ""):
        f: Any = partial(layer.apply, _inside(variables, name), **train_argument(layer, False))
        y, push = jax.linearize(f, x)
        terms = {other: push(term) for other, term in terms.items()}
        if x.ndim > 2:
            strides = 1 if y.ndim == 2 else _strides(name, layer, x, y)
            term = lie_derivative(f, x, motion, axis, strides)
            terms[name] = term / distance if motion == "translation" else term
            distance *= ops.per_axis(strides, x.ndim - 2, "strides")[axis]
        x = y
    return {name: jnp.square(term).mean() for name, term in terms.items()}


def _derivative(x: Array, axis: int) -> Array:
    """Return ∂x/∂p along an axis, of the trigonometric interpolation."""
    n = x.shape[axis]
    factor = jnp.expand_dims(2j * math.pi * jnp.fft.rfftfreq(n), _others(x, axis))
    return jnp.fft.irfft(jnp.fft.rfft(x, axis=axis) * factor, n, axis).astype(x.dtype)


def _others(x: Array, axis: int) -> list[int]:
    return [a for a in range(x.ndim) if a != axis]


def _steps(model: nn.Module, name: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the layers of a chain, and those of chains in it."""
    if not isinstance(model, Chain):
        raise InputError(
            f"model must be a Chain, got {type(model).__name__}: take lie_derivative of the "
            "layer_functions of other networks"
        )
    for part, layer in children(model).items():
        path = join_path(name, part)
        if isinstance(layer, Chain):
            yield from _steps(layer, path)
        else:
            yield path, layer


def _inside(variables: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the variables of the layer `name`."""
    found = {}
    for collection, tree in variables.items():
        for part in name.split("/"):
            tree = tree.get(part, {})
        found[collection] = tree
    return found


def _strides(name: str, layer: nn.Module, x: Array, y: Array) -> Size:
    """Return the strides of one layer that gives the map `y`."""
    if x.shape[1:-1] == y.shape[1:-1]:
        return 1
    layers = describe(layer.clone(name=None), x.shape[1:], aligned=False).layers
    field = layers[-1].field if layers else None
    if field is None or not field.is_map:
        raise InputError(f"strides of layer {name} are not known, because its outputs see all")
    return tuple(int(s) for s in field.stride)
