"""Initial parameters of a changed network: drawn by the network's own initializers."""

import math
from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array, Key, PyTree

from cnn.ablations.plan import Plan
from cnn.ablations.weights import Weights

Make = Callable[[Key[Array, ""]], PyTree]


def initial(plan: Plan, make: Make, key: Key[Array, ""]) -> PyTree:
    """Return parameters of the changed network.

    Each position has a draw of its own. A kernel of another shape consists of drawn numbers, scaled
    so that the output keeps its variance.

    Args:
      make: Draws the parameters of the original network.
    """
    make = jax.jit(make)  # so that it is traced once
    leaves: list[PyTree] = jax.tree.leaves(make(key))
    shapes = plan.shapes()
    for number, weights in enumerate(plan.changed.values(), 1):
        fresh = jax.random.fold_in(key, number)
        bias = () if weights.site.bias is None else (weights.site.bias,)
        for leaf in (*weights.site.weights, *bias):
            if shapes[leaf] != plan.leaves[leaf]:
                leaves[leaf] = _draw(weights, make, fresh, leaf, shapes[leaf], leaves[leaf])
    variables: PyTree = plan.structure.unflatten(leaves)
    return variables


def _draw(
    weights: Weights, make: Make, key: Key[Array, ""], leaf: int, shape: PyTree, old: Array
) -> PyTree:
    """Return a parameter of `shape` from draws of the `old` one."""
    if isinstance(shape, dict):
        return _kernels(weights, key, old)
    count = -(-math.prod(shape.shape) // old.size)
    draws = jax.jit(jax.vmap(partial(_leaf, make, leaf)))(jax.random.split(key, count))
    new = draws.reshape(-1)[: math.prod(shape.shape)].reshape(shape.shape)
    if weights.stacked or leaf == weights.site.bias:
        return new
    site = weights.site
    return new * math.sqrt(site.layer.fan_in(site.shape) / weights.layer.fan_in(site.shape))


def _leaf(make: Make, leaf: int, key: Key[Array, ""]) -> Array:
    value: Array = jax.tree.leaves(make(key))[leaf]
    return value


def _kernels(weights: Weights, key: Key[Array, ""], old: Array) -> PyTree:
    """Return kernels by the layer's own initializers, the last one scaled by what `old` has."""
    site = weights.site
    params = weights.layer.init(key, jnp.zeros((1, *site.shape)))["params"]
    flat = {path: value.astype(old.dtype) for path, value in flatten_dict(params, sep="/").items()}
    flat.pop(weights.bias, None)
    prefix = weights.bias.removesuffix("bias")
    last = max(path for path in flat if path.startswith(prefix) and path.endswith("kernel"))
    scale = jnp.mean(jnp.square(old)) * site.layer.fan_in(site.shape)
    flat[last] *= jnp.sqrt(scale / site.layer.scale)
    return unflatten_dict(flat, sep="/")
