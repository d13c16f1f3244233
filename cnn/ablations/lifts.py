"""Weights carried up the ladder of biases, function unchanged, and back down.

A rung's kernels are a subspace of those of the rung below it: up is an inclusion, down the
orthogonal projection. With the windows' incidence S of `cnn.ops.conv_matrix` and period P,

    conv → tiled → local:   w[p] = w[p mod P]
    local → dense:          W[i, p] = Σ_a S[i, p, a] · w[p, a]

Downwards w is the mean over the positions that share it, and from dense to windowed layers the
least-squares solution of the second equation.
"""

from __future__ import annotations

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
from cnn.layers.tree import leaves
from cnn.ops import WindowSpec, window_spec
from cnn.ops.conv_matrix import incidence

Variables = dict[str, Any]
Shape = tuple[int, ...]

_LADDER: tuple[type[ConvBase], ...] = (Conv, ConvTiled, ConvLocal, DenseSpatial)


def lift(
    variables: Variables, source: nn.Module, target: nn.Module, input_shape: Sequence[int]
) -> Variables:
    """Return variables with which `target` computes what `source` computes with `variables`.

    `target` has the layers of `source`, each at the same rung of conv → tiled → local → localized
    dense → dense or further along it, as `tile`, `unshare`, `localize` and `densify` make them. A
    period must be a multiple of the one before, a radius cover the window. Leaves of `variables`
    that are no weights of such layers are kept. `input_shape` is `(*spatial, channels)`.
    Raises `LayerError` where a layer of `target` is not further along, with what differs.
    """
    params = _carry(variables["params"], source, target, tuple(input_shape), up=True)
    return {**variables, "params": params}


def project(
    variables: Variables, source: nn.Module, target: nn.Module, input_shape: Sequence[int]
) -> Variables:
    """Return the variables of `target` whose lift to `source` is nearest to `variables`.

    Here `source` is further along the ladder than `target`. Nearest is meant in the weights, by
    least squares: sharing averages. Of a lift it gives back what was lifted; only weights that see
    nothing but padding are lost on the way through a dense layer, and return as zeros.
    Raises `LayerError` as `lift` does.
    """
    params = _carry(variables["params"], source, target, tuple(input_shape), up=False)
    return {**variables, "params": params}


@partial(jax.jit, static_argnames=("source", "target", "input_shape", "up"))
def _carry(
    weights: Variables, source: nn.Module, target: nn.Module, input_shape: Shape, up: bool
) -> Variables:
    before, after = leaves(source), leaves(target)
    if before.keys() != after.keys():
        odd = min(before.keys() ^ after.keys())
        raise InputError(
            f"the models are not on one ladder: only one of them has a layer {odd}; "
            "they may differ by tile, unshare, localize and densify alone"
        )
    seen = trace(source if up else target, input_shape)
    params = flatten_dict(weights, sep="/")
    for name, layer in before.items():
        if layer == after[name]:
            continue
        strict, free = (layer, after[name]) if up else (after[name], layer)
        size = seen[name].input
        if not (isinstance(strict, _LADDER) and isinstance(free, _LADDER)):
            what = "; ".join(differences(to_spec(strict), to_spec(free)))
            raise LayerError(name, f"not on one ladder: {what}")
        try:
            at = _check(strict, free, size)
        except InputError as error:
            raise LayerError(name, f"not on one ladder: {error}") from None
        kernel, bias = (f"{name}/{part}".lstrip("/") for part in ("kernel", "bias"))
        move = _kernel_up if up else _kernel_down
        params[kernel] = move(params[kernel], strict, free, at, size)
        if bias in params:
            periods = _period(strict, at), _period(free, at)
            b = params[bias].reshape(*periods[not up], -1)
            b = _spread(b, *periods) if up else _gather(b, *periods)
            params[bias] = b.reshape(-1) if not up and isinstance(strict, Conv) else b
    return unflatten_dict(params, sep="/")


def _check(strict: ConvBase, free: ConvBase, size: Shape) -> WindowSpec:
    """Return where the windows stand; raise `InputError` unless `free` is further along."""
    if _LADDER.index(type(strict)) > _LADDER.index(type(free)):
        raise InputError(f"{type(free).__name__} has more bias than {type(strict).__name__}")
    may_differ = {"parent", "name", "scale"}
    if isinstance(free, DenseSpatial):
        may_differ |= {"padding_mode", "groups"}
    for field in {f.name for f in dataclasses.fields(ConvBase)} - may_differ:
        old, new = getattr(strict, field), getattr(free, field)
        if old != new:
            raise InputError(f"{field} {old} is not {new}")
    at = window_spec(size[:-1], strict.window, strict.strides, strict.padding, strict.dilation)
    if isinstance(free, ConvTiled) and np.any(np.mod(_period(free, at), _period(strict, at))):
        raise InputError(f"period {free.period} is no multiple of {_period(strict, at)}")
    if isinstance(free, DenseSpatial):
        for sees, limit in zip(_sees(strict, at), _sees(free, at), strict=True):
            if (sees & ~limit).any():
                raise InputError(f"radius {free.radius} does not cover all that the other sees")
    return at


def _sees(layer: ConvBase, at: WindowSpec) -> list[np.ndarray]:
    """Return for each axis, as `(size, out)`, which positions each window has weights for."""
    if isinstance(layer, DenseSpatial):
        return ops.within(at, layer.radius, layer.padding_mode)
    return [np.any(s, -1) for s in incidence(at, layer.padding_mode)]


def _period(layer: ConvBase, at: WindowSpec) -> Shape:
    """Return of how many kernels, per axis, the layer consists."""
    if isinstance(layer, Conv):
        return (1,) * len(at.out)
    if isinstance(layer, ConvTiled):
        return ops.per_axis(layer.period, len(at.out), "period")
    return at.out


def _spread(w: Array, few: Shape, many: Shape) -> Array:
    """w[p mod few] for p in `many`, whose axes come first."""
    for axis, (P, Q) in enumerate(zip(few, many, strict=True)):
        w = jnp.take(w, np.arange(Q) % P, axis)
    return w


def _gather(w: Array, few: Shape, many: Shape) -> Array:
    """Take the mean over the p of `many` that are equal modulo `few`."""
    for axis, (P, Q) in enumerate(zip(few, many, strict=True)):
        shares = _phases(P, Q) / _phases(P, Q).sum(1, keepdims=True)
        w = _apply(shares, w, axis)
    return w


def _phases(period: int, count: int) -> np.ndarray:
    """Return the 0/1 matrix `(period, count)` that says which p have which phase."""
    return (np.arange(count) % period == np.arange(period)[:, None]).astype(np.float32)


def _apply(matrix: np.ndarray, w: Array, axis: int) -> Array:
    return jnp.moveaxis(jnp.tensordot(jnp.asarray(matrix, w.dtype), w, (1, axis)), 0, axis)


def _kernel_up(w: Array, strict: ConvBase, free: ConvBase, at: WindowSpec, size: Shape) -> Array:
    if isinstance(strict, DenseSpatial):
        return w * ops.outer(_sees(strict, at), w.dtype)
    rank = len(at.out)
    few = _period(strict, at)
    w = _spread(w.reshape(*few, *w.shape[-rank - 2 :]), few, _period(free, at))
    if not isinstance(free, DenseSpatial):
        return w
    fields = ("strides", "padding", "padding_mode", "dilation", "groups")
    return ops.conv_matrix(w, size, **{name: getattr(strict, name) for name in fields})


def _kernel_down(w: Array, strict: ConvBase, free: ConvBase, at: WindowSpec, size: Shape) -> Array:
    few, rank = _period(strict, at), len(at.out)
    if isinstance(strict, DenseSpatial):
        return w * ops.outer(_sees(strict, at), w.dtype)
    if isinstance(free, DenseSpatial):
        w = _windows_of(w * ops.outer(_sees(free, at), w.dtype), strict, at, few)
    else:
        many = _period(free, at)
        w = _gather(w.reshape(*many, *w.shape[-rank - 2 :]), few, many)
    return w.reshape(w.shape[rank:]) if isinstance(strict, Conv) else w


def _windows_of(w: Array, layer: ConvBase, at: WindowSpec, period: Shape) -> Array:
    """Solve W[i, p] = Σ_a S[i, p, a] · w[p mod P, a] for w by least squares, axis by axis.

    The normal equations of an axis and phase q are G w = Σ_p Σ_i S[i, p, a] W[i, p] with
    G[a, b] = Σ_p Σ_i S[i, p, a] · S[i, p, b], sums over the p of phase q.
    """
    rank = len(period)
    i, p, a, q = "ijk"[:rank], "pqr"[:rank], "abc"[:rank], "xyz"[:rank]
    solvers = []
    for s, P, n in zip(incidence(at, layer.padding_mode), period, at.out, strict=True):
        seen, phases = s.astype(float), _phases(P, n)
        gram = np.einsum("xp,ipa,ipb->xab", phases, seen, seen)
        inverse = np.linalg.pinv(gram, hermitian=True)
        solvers.append(np.einsum("xab,xp,ipb->xpia", inverse, phases, seen))
    terms = ",".join(map("".join, zip(q, p, i, a, strict=True)))
    solve = [jnp.asarray(solver, w.dtype) for solver in solvers]
    whole = jnp.einsum(f"{terms},{i}m{p}o->{q}{a}mo", *solve, w)
    g, c_out = layer.groups, w.shape[-1]
    blocks = whole.reshape(*whole.shape[:-2], g, -1, g, c_out // g)
    return jnp.einsum("...gigo->...igo", blocks).reshape(*whole.shape[:-2], -1, c_out)
