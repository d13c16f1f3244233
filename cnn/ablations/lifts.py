"""Weights moved to a model with less bias, with the function unchanged, and back.

The kernels of each layer type are a linear subspace of those of the next:

    conv → tiled → local:   w[p] = w[p mod P]
    local → dense:          W[i, p] = Σ_a S[i, p, a] · w[p, a]

with the period P and the windows' S of `cnn.ops.conv_matrix`. `lift` is the inclusion, `project`
the orthogonal projection: the mean over the positions that share a kernel, and from dense to
windowed layers the least-squares solution of the second equation.
"""

import dataclasses
from collections.abc import Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from cnn import ops
from cnn.errors import InputError, LayerError
from cnn.geometry import trace
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled, DenseSpatial
from cnn.layers.serialization import differences, to_spec
from cnn.layers.tree import leaf_layers
from cnn.ops import WindowSpec, window_spec
from cnn.ops.conv_matrix import tap_masks

Variables = dict[str, Any]
Shape = tuple[int, ...]

# From the most to the least bias.
_ORDER: tuple[type[ConvBase], ...] = (Conv, ConvTiled, ConvLocal, DenseSpatial)


def lift(
    variables: Variables, source: nn.Module, target: nn.Module, input_shape: Sequence[int]
) -> Variables:
    """Return variables with which `target` computes what `source` computes with `variables`.

    `target` has less bias, as `tile`, `unshare`, `localize` and `densify` make it: each layer is of
    the same or a later type in conv → tiled → local → dense, a period is a multiple of the one
    before, and a radius covers the window. What is not a weight of a changed layer is kept.
    """
    params = _transfer(variables["params"], source, target, tuple(input_shape), up=True)
    return {**variables, "params": params}


def project(
    variables: Variables, source: nn.Module, target: nn.Module, input_shape: Sequence[int]
) -> Variables:
    """Return the variables of `target` whose lift to `source` is nearest to `variables`.

    The inverse of `lift`, with `target` the model with more bias; the distance is that of the
    weights, in least squares. `project` of a lift returns what was lifted, except for weights that
    see only padding: these are lost in a dense layer and come back as zeros.
    """
    params = _transfer(variables["params"], source, target, tuple(input_shape), up=False)
    return {**variables, "params": params}


@partial(jax.jit, static_argnames=("source", "target", "input_shape", "up"))
def _transfer(
    weights: Variables, source: nn.Module, target: nn.Module, input_shape: Shape, up: bool
) -> Variables:
    before, after = leaf_layers(source), leaf_layers(target)
    if before.keys() != after.keys():
        odd = min(before.keys() ^ after.keys())
        raise InputError(
            f"the models must have the same layers, but only one of them has {odd}: "
            "they may differ by tile, unshare, localize and densify alone"
        )
    traces = trace(source if up else target, input_shape)
    params = flatten_dict(weights, sep="/")
    for name, layer in before.items():
        if layer == after[name]:
            continue
        biased, free = (layer, after[name]) if up else (after[name], layer)
        size = traces[name].input
        if not (isinstance(biased, _ORDER) and isinstance(free, _ORDER)):
            what = "; ".join(differences(to_spec(biased), to_spec(free)))
            raise LayerError(name, f"cannot be lifted: {what}")
        try:
            spec = _check(biased, free, size)
        except InputError as error:
            raise LayerError(name, f"cannot be lifted: {error}") from None
        kernel, bias = (f"{name}/{part}".lstrip("/") for part in ("kernel", "bias"))
        params[kernel] = _move_kernel(params[kernel], biased, free, spec, size, up)
        if bias in params:
            share = _repeat if up else _average
            params[bias] = share(params[bias], biased, free, spec, trailing=1)
    return unflatten_dict(params, sep="/")


def _check(biased: ConvBase, free: ConvBase, size: Shape) -> WindowSpec:
    """Return the windows; raise `InputError` if `free` cannot represent all that `biased` can."""
    if _ORDER.index(type(biased)) > _ORDER.index(type(free)):
        raise InputError(f"{type(free).__name__} has more bias than {type(biased).__name__}")
    may_differ = {"parent", "name", "scale"}
    if isinstance(free, DenseSpatial):
        may_differ |= {"padding_mode", "groups"}
    for field in {f.name for f in dataclasses.fields(ConvBase)} - may_differ:
        old, new = getattr(biased, field), getattr(free, field)
        if old != new:
            raise InputError(f"{field} must be the same, got {old} and {new}")
    spec = window_spec(size[:-1], biased.window, biased.strides, biased.padding, biased.dilation)
    if isinstance(free, ConvTiled) and np.any(np.mod(_period(free, spec), _period(biased, spec))):
        raise InputError(f"period must be a multiple of {_period(biased, spec)}, got {free.period}")
    if isinstance(free, DenseSpatial):
        for mask, limit in zip(_masks(biased, spec), _masks(free, spec), strict=True):
            if (mask & ~limit).any():
                raise InputError(f"radius must cover what the other layer sees, got {free.radius}")
    return spec


def _masks(layer: ConvBase, spec: WindowSpec) -> list[np.ndarray]:
    """Return for each axis, as `(size, out)`, whether an output has a weight for an input."""
    if isinstance(layer, DenseSpatial):
        return ops.radius_masks(spec, layer.radius, layer.padding_mode)
    return [np.any(mask, -1) for mask in tap_masks(spec, layer.padding_mode)]


def _period(layer: ConvBase, spec: WindowSpec) -> Shape:
    """Return the number of kernels of the layer, per axis."""
    if isinstance(layer, Conv):
        return (1,) * len(spec.out)
    if isinstance(layer, ConvTiled):
        return ops.per_axis(layer.period, len(spec.out), "period")
    return spec.out


def _repeat(w: Array, biased: ConvBase, free: ConvBase, spec: WindowSpec, trailing: int) -> Array:
    """Return w[p mod period of `biased`] for p below the period of `free`.

    Positions are the first axes of a weight, `trailing` is the number of the others.
    """
    period = _period(biased, spec)
    w = w.reshape(*period, *w.shape[-trailing:])
    for axis, (P, n) in enumerate(zip(period, _period(free, spec), strict=True)):
        w = jnp.take(w, np.arange(n) % P, axis)
    return w


def _average(w: Array, biased: ConvBase, free: ConvBase, spec: WindowSpec, trailing: int) -> Array:
    """Return the mean over the p below the period of `free` that `_repeat` makes equal."""
    count = _period(free, spec)
    w = w.reshape(*count, *w.shape[-trailing:])
    for axis, (P, n) in enumerate(zip(_period(biased, spec), count, strict=True)):
        phases = _phases(P, n)
        mean = jnp.asarray(phases / phases.sum(1, keepdims=True), w.dtype)
        w = jnp.moveaxis(jnp.tensordot(mean, w, (1, axis)), 0, axis)
    return w.reshape(w.shape[-trailing:]) if isinstance(biased, Conv) else w


def _phases(period: int, count: int) -> np.ndarray:
    """Return the matrix `(period, count)` that is 1 where p mod `period` = q, else 0."""
    return (np.arange(count) % period == np.arange(period)[:, None]).astype(np.float32)


def _move_kernel(
    w: Array, biased: ConvBase, free: ConvBase, spec: WindowSpec, size: Shape, up: bool
) -> Array:
    """Return the kernel `w` of `biased` lifted if `up`, otherwise that of `free` projected."""
    if isinstance(biased, DenseSpatial):
        return w * ops.dense_mask(_masks(biased, spec), w.dtype)
    rank = len(spec.out)
    if not isinstance(free, DenseSpatial):
        return (_repeat if up else _average)(w, biased, free, spec, trailing=rank + 2)
    if up:
        w = _repeat(w, biased, free, spec, trailing=rank + 2)
        fields = ("strides", "padding", "padding_mode", "dilation", "groups")
        return ops.conv_matrix(w, size, **{name: getattr(biased, name) for name in fields})
    w = w * ops.dense_mask(_masks(free, spec), w.dtype)
    w = _solve_windows(w, biased, spec, _period(biased, spec))
    return w.reshape(w.shape[rank:]) if isinstance(biased, Conv) else w


def _solve_windows(w: Array, layer: ConvBase, spec: WindowSpec, period: Shape) -> Array:
    """Solve W[i, p] = Σ_a S[i, p, a] · w[p mod P, a] for w by least squares, axis by axis.

    The normal equations of an axis and phase q are G w = Σ_p Σ_i S[i, p, a] W[i, p] with
    G[a, b] = Σ_p Σ_i S[i, p, a] · S[i, p, b], sums over the p of phase q.
    """
    rank = len(period)
    i, p, a, q = "ijk"[:rank], "pqr"[:rank], "abc"[:rank], "xyz"[:rank]
    solvers = []
    for mask, P, n in zip(tap_masks(spec, layer.padding_mode), period, spec.out, strict=True):
        S, phases = mask.astype(float), _phases(P, n)
        gram = np.einsum("xp,ipa,ipb->xab", phases, S, S)
        inverse = np.linalg.pinv(gram, hermitian=True)
        solvers.append(jnp.asarray(np.einsum("xab,xp,ipb->xpia", inverse, phases, S), w.dtype))
    terms = ",".join(map("".join, zip(q, p, i, a, strict=True)))
    full = jnp.einsum(f"{terms},{i}m{p}o->{q}{a}mo", *solvers, w)
    # Only the diagonal blocks of a grouped kernel are weights.
    g, c_out = layer.groups, w.shape[-1]
    blocks = full.reshape(*full.shape[:-2], g, -1, g, c_out // g)
    return jnp.einsum("...gigo->...igo", blocks).reshape(*full.shape[:-2], -1, c_out)
