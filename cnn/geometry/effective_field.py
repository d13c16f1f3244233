"""How the weight of a unit is distributed over its receptive field (Luo et al. 2016)."""

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Float, PyTree

from cnn import layers, ops
from cnn.errors import InputError
from cnn.geometry.description import describe
from cnn.geometry.windows import pool_windows, truncate
from cnn.layers.tree import map_layers
from cnn.ops.patches import shifted_views


def uniform_field(
    model: nn.Module,
    input_shape: Sequence[int],
    layer: str | None = None,
    unit: Sequence[int] | None = None,
) -> Float[np.ndarray, "*spatial"]:
    """Return the share of each pixel in a unit's gradient if all weights are equal; sum 1.

    It counts the paths from the pixels to the unit (Luo et al. 2016, section 2.1). Pooling becomes
    a sum, normalization and activations the identity: no path is lost, so the pixels above 0 are
    exactly those that the unit sees. All are 0 if it sees nothing but padding. `unit` is a position
    on the map of `layer`; the defaults are the middle of the map, and the last layer before the
    head.
    """
    linear = map_layers(_local_part(model, input_shape, layer), _linearize)
    x = jnp.ones((1, *input_shape))
    shapes = jax.eval_shape(linear.init, jax.random.key(0), x)
    variables = jax.tree.map(lambda w: jnp.full(w.shape, _weight(w.shape)), shapes)
    gradient = jax.jit(lambda variables: _gradient(linear, variables, x, unit))(variables)
    density = np.asarray(gradient, np.float64).sum(-1)
    return density / max(density.sum(), np.finfo(float).tiny)


def spread(density: Float[np.ndarray, "*spatial"]) -> tuple[float, ...]:
    """Return the standard deviation of a density over the pixels, in pixels per axis.

    √(Σ q_i (i − μ)²) with μ = Σ q_i i and q the marginal. For n uniform convolutions with windows
    of 3 it is √(2n / 3), where the receptive field is 2n + 1.
    """
    deviations = []
    for axis, n in enumerate(density.shape):
        others = tuple(a for a in range(density.ndim) if a != axis)
        q = density.sum(others) / density.sum()
        mean = q @ np.arange(n)
        deviations.append(math.sqrt(q @ (np.arange(n) - mean) ** 2))
    return tuple(deviations)


def _local_part(model: nn.Module, input_shape: Sequence[int], layer: str | None) -> nn.Module:
    """Return `model` up to `layer`; by default up to the last layer before the head."""
    if layer is not None:
        return truncate(model, layer)
    local = describe(model, input_shape, aligned=False).local
    return truncate(model, local[-1].name) if local else layers.Chain(())


def _gradient(model: nn.Module, variables: PyTree, x: Array, unit: Sequence[int] | None) -> Array:
    """Return the gradient of the unit, summed over its channels, with respect to x[0]."""

    def value(x: Array) -> Array:
        y: Any = model.apply(variables, x)
        size = y.shape[1:-1]
        at = tuple(n // 2 for n in size) if unit is None else tuple(unit)
        if len(at) != len(size) or not all(0 <= p < n for p, n in zip(at, size, strict=True)):
            raise InputError(f"unit must be a position on a map of size {size}, got {unit}")
        return y[(0, *at)].sum()

    return jax.grad(value)(x)[0]


def _weight(shape: tuple[int, ...]) -> float:
    """Return a value for all weights of one kernel with which deep networks do not overflow."""
    return 1 / (shape[-2] * math.sqrt(math.prod(shape[:-2]))) if len(shape) > 1 else 1.0


class _Function(nn.Module):
    """A function as a layer."""

    function: Callable[[Array], Array]

    def __call__(self, x: Array) -> Array:
        return self.function(x)


def _linearize(name: str, layer: nn.Module) -> nn.Module:
    """Return a linear layer that sees the same positions, without negative weights."""
    match layer:
        case layers.MaxPool() | layers.AvgPool():
            return _Function(lambda x: _sum_pool(layer, x))
        case layers.Maxout(group):
            return _Function(lambda x: x.reshape(*x.shape[:-1], -1, group).sum(-1))
        case layers.AdaptiveMaxPool(output_size):
            return layers.AdaptiveAvgPool(output_size)
        case layers.GlobalMaxPool():
            return layers.GlobalAvgPool()
        case layers.BatchNorm() | layers.GroupNorm() | layers.LocalResponseNorm():
            return layers.Chain(())
        case layers.Dropout() | layers.ReLU() | layers.Tanh() | layers.Sigmoid() | layers.GELU():
            return layers.Chain(())
    return layer


def _sum_pool(layer: layers.MaxPool | layers.AvgPool, x: Array) -> Array:
    spec = pool_windows(layer, x.shape[1:-1])
    return jnp.stack(shifted_views(ops.pad(x, spec.pairs), spec)).sum(0)
