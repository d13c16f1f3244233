"""Layers whose weights have several copies in another layer, which computes the same.

    ConvGroup, BatchNormGroup → Conv, BatchNorm     |G| copies, one for each transformation
    TokenMixing → DenseSpatial                      one copy for each channel

So the weights of the first are a linear subspace of those of the second, and the projection to it
is the mean over the copies. From a dense layer to a group convolution it goes through the
convolution; together that is the nearest point on square maps, whose border is symmetric, too.
"""

from functools import partial

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import Array

from cnn import ops
from cnn.ablations.rewrite import convert
from cnn.errors import InputError
from cnn.layers import BatchNorm, BatchNormGroup, Conv, ConvGroup, DenseSpatial, TokenMixing

Tied = ConvGroup | BatchNormGroup | TokenMixing


def untie(layer: nn.Module) -> nn.Module:
    """Return the layer that computes the same with `expand`ed weights, which are independent."""
    match layer:
        case ConvGroup():
            return convert(layer, Conv, features=layer.features * ops.group_order(layer.group))
        case BatchNormGroup():
            return BatchNorm(layer.momentum, layer.epsilon)
        case TokenMixing():
            return convert(layer, DenseSpatial)
    return layer


def expand(layer: nn.Module, part: str, w: Array) -> Array:
    """Return a weight or statistic of `layer`, such as "kernel", as the one of `untie(layer)`."""
    match layer:
        case ConvGroup() if part == "kernel":
            return ops.group_kernel(w, layer.group)
        case ConvGroup() | BatchNormGroup():
            return jnp.repeat(w, ops.group_order(layer.group))
        case TokenMixing() if part == "kernel":
            rank, one = w.ndim // 2, jnp.eye(layer.features, dtype=w.dtype)
            return jnp.moveaxis(jnp.multiply.outer(w, one), -2, rank)
        case TokenMixing():
            return jnp.broadcast_to(w[..., None], (*w.shape, layer.features))
    return w


def average(layer: nn.Module, part: str, w: Array) -> Array:
    """Return a weight of `untie(layer)` as the nearest one of `layer`: the mean over its copies."""
    if not isinstance(layer, Tied):
        return w
    if isinstance(layer, TokenMixing):
        rank, copies = w.ndim // 2 - 1, layer.features
        shape = w.shape[:-1] if part == "bias" else (*w.shape[:rank], *w.shape[rank + 1 : -1])
    else:
        copies = ops.group_order(layer.group)
        *rest, c_out = w.shape
        if part == "kernel" and isinstance(layer, ConvGroup) and not layer.lifting:
            *window, c_in = rest
            rest = [*window, copies, c_in // copies]
        shape = (*rest, c_out // copies)
    # Each weight has the same number of copies, so the transpose of the expansion sums over them.
    (total,) = jax.linear_transpose(
        partial(expand, layer, part), jax.ShapeDtypeStruct(shape, w.dtype)
    )(w)
    return total / copies


def check_nested(biased: nn.Module, free: nn.Module) -> None:
    """Raise `InputError` if `free` ties weights that `biased` does not tie."""
    if not isinstance(free, Tied):
        return
    if type(biased) is not type(free):
        raise InputError(f"{type(free).__name__} has more bias than {type(biased).__name__}")
    more, less = (getattr(layer, "group", None) for layer in (biased, free))
    if more != less and (more, less) != ("p4m", "p4"):
        raise InputError(f"group {less!r} must be a part of {more!r}")
    if getattr(biased, "lifting", None) != getattr(free, "lifting", None):
        raise InputError("lifting must be the same, or the kernels have other axes")
