"""What a unit really looks at: the gradient of its value with respect to the pixels."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Bool, Float, PyTree

from cnn import ops
from cnn.geometry.backward import chosen_unit, local_part
from cnn.layers import (
    GELU,
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    AvgPool,
    BatchNorm,
    Chain,
    Dropout,
    GlobalAvgPool,
    GlobalMaxPool,
    GroupNorm,
    LocalResponseNorm,
    Maxout,
    MaxPool,
    ReLU,
    Sigmoid,
    Tanh,
)
from cnn.layers.tree import replace


def gradient_field(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None = None,
    unit: Sequence[int] | None = None,
    key: Array | None = None,
) -> Bool[np.ndarray, "*spatial"]:
    """Return which pixels move a unit, by the gradient with random positive weights.

    Pooling becomes a sum, and normalisation and activations the identity, so that nothing cancels
    and nothing is cut off. `layer` and `unit` are chosen as in `backward_field`.
    """
    key = jax.random.key(0) if key is None else key
    return _of_positive(model, input_shape, layer, unit, key) > 0


def uniform_field(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None = None,
    unit: Sequence[int] | None = None,
) -> Float[np.ndarray, "*spatial"]:
    """Return how a unit's weight is spread over the pixels where all weights are alike; sum 1.

    It counts the paths from the pixels to the unit (Luo et al. 2016, section 2.1).
    """
    density = _of_positive(model, input_shape, layer, unit, None)
    return density / density.sum()


def effective_field(
    model: nn.Module,
    input_shape: Sequence[int],
    draws: int,
    key: Array,
    layer: str | None = None,
    unit: Sequence[int] | None = None,
) -> Float[np.ndarray, "*spatial"]:
    """Return how much of a unit's gradient falls on each pixel, at initial weights; sum 1.

    The mean square of the gradient over `draws` of weights and inputs from N(0, 1), summed over
    channels (Luo et al. 2016, section 2.2: where the weights are independent and of mean zero, it
    is the variance that spreads like the paths of `uniform_field`). `layer` and `unit` are chosen
    as in `backward_field`.
    """
    model = local_part(model, input_shape, layer)

    @jax.jit
    def energy(key: Array) -> Array:
        for_weights, for_input = jax.random.split(key)
        x = jax.random.normal(for_input, (1, *input_shape))
        slope = _slope(model, model.init(for_weights, x), x, unit)
        return jnp.square(slope).sum(-1)

    total = np.sum([np.asarray(energy(k)) for k in jax.random.split(key, draws)], 0, np.float64)
    return total / total.sum()


def spread(density: Float[np.ndarray, "*spatial"]) -> tuple[float, ...]:
    """Return the standard deviation, in pixels per axis, of a density over the pixels.

    That of its marginal: √(Σ q_i (i − μ)²), μ = Σ q_i i. For n uniform convolutions with windows of
    3 it is √(2n / 3), for the field of 2n + 1.
    """
    deviations = []
    for axis, n in enumerate(density.shape):
        others = tuple(a for a in range(density.ndim) if a != axis)
        q = density.sum(others) / density.sum()
        mean = q @ np.arange(n)
        deviations.append(math.sqrt(q @ (np.arange(n) - mean) ** 2))
    return tuple(deviations)


def _slope(model: nn.Module, variables: PyTree, x: Array, unit: Sequence[int] | None) -> Array:
    """Return the gradient of the channel sum at the unit with respect to x[0]."""

    def value(x: Array) -> Array:
        y: Any = model.apply(variables, x)
        return y[(0, *chosen_unit(y.shape[1:-1], unit))].sum()

    return jax.grad(value)(x)[0]


def _of_positive(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None,
    unit: Sequence[int] | None,
    key: Array | None,
) -> Float[np.ndarray, "*spatial"]:
    """Return the gradient with weights that are all alike, or random and positive for a `key`."""
    linear = replace(local_part(model, input_shape, layer), _positive)
    x = jnp.ones((1, *input_shape))
    made, tree = jax.tree.flatten(jax.eval_shape(linear.init, jax.random.key(0), x))
    sizes = [w.size for w in made]
    shape = (sum(sizes),)
    drawn = jnp.ones(shape) if key is None else jax.random.uniform(key, shape, minval=0.5, maxval=2)
    each = np.split(
        np.asarray(drawn), np.cumsum(sizes)
    )  # drawn at once: to compile is what takes time
    weights = [v.reshape(w.shape) / _size(w.shape) for v, w in zip(each, made, strict=False)]
    slope = jax.jit(lambda w: _slope(linear, jax.tree.unflatten(tree, w), x, unit))(weights)
    return np.asarray(slope, np.float64).sum(-1)


def _size(shape: tuple[int, ...]) -> float:
    """Return by what weights are divided so that deep stacks neither overflow nor vanish."""
    return shape[-2] * math.sqrt(math.prod(shape[:-2])) if len(shape) > 1 else 1.0


class _Linear(nn.Module):
    """A layer that is a function."""

    function: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        return self.function(x)


def _positive(name: str, layer: nn.Module) -> nn.Module:
    """Return a linear layer that sees the same positions, with no negative weight in it."""
    match layer:
        case MaxPool() | AvgPool():
            return _Linear(functools.partial(_sum_pool, layer))
        case Maxout(group):
            return _Linear(lambda x: x.reshape(*x.shape[:-1], -1, group).sum(-1))
        case AdaptiveMaxPool(output_size):
            return AdaptiveAvgPool(output_size)
        case GlobalMaxPool():
            return GlobalAvgPool()
        case BatchNorm() | GroupNorm() | LocalResponseNorm() | Dropout():
            return Chain(())
        case ReLU() | Tanh() | Sigmoid() | GELU():
            return Chain(())
    return layer


def _sum_pool(layer: Any, x: Array) -> Array:
    rank = x.ndim - 2
    window = ops.per_axis(layer.window, rank, "window")
    seen = ops.patches(
        x,
        window,
        strides=window if layer.strides is None else layer.strides,
        padding=layer.padding,
        dilation=getattr(layer, "dilation", 1),
    )
    return seen.sum(tuple(range(1 + rank, 1 + 2 * rank)))
