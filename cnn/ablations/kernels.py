"""Kernels and biases moved between layers that differ in locality and sharing alone.

The kernels of each layer type are a linear subspace of those of the next:

    conv → tiled → local:   w[p] = w[p mod P]
    local → dense:          W[i, p] = Σ_a S[i, p, a] · w[p, a]

with the period P and the windows' S of `cnn.ops.conv_matrix`. Up is the inclusion, down the
orthogonal projection: the mean over the positions that share a kernel, and from dense to windowed
layers the least-squares solution of the second equation.
"""

import dataclasses
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jaxtyping import Array

from cnn import ops
from cnn.errors import InputError
from cnn.layers import Conv, ConvBase, ConvLocal, ConvTiled, DenseSpatial
from cnn.layers.serialization import differences, to_spec
from cnn.ops import WindowSpec, window_spec
from cnn.ops.conv_matrix import tap_masks

Shape = tuple[int, ...]

# From the most to the least bias.
ORDER: tuple[type[ConvBase], ...] = (Conv, ConvTiled, ConvLocal, DenseSpatial)


class Transfer(NamedTuple):
    """Weights of two layers, of which `free` has less bias: up from `biased` to it, or down."""

    biased: ConvBase
    free: ConvBase
    spec: WindowSpec
    size: Shape
    up: bool

    def kernel(self, w: Array) -> Array:
        """Return the other layer's kernel, with the axes of `cnn.layers`."""
        if isinstance(self.biased, DenseSpatial):
            return w * ops.dense_mask(_masks(self.biased, self.spec), w.dtype)
        if not isinstance(self.free, DenseSpatial):
            return self.positions(w)
        if self.up:
            fields = ("strides", "padding", "padding_mode", "dilation", "groups")
            options = {name: getattr(self.biased, name) for name in fields}
            return ops.conv_matrix(self.positions(w), self.size, **options)
        w = w * ops.dense_mask(_masks(self.free, self.spec), w.dtype)
        return _solve_windows(w, self.biased, self.spec)

    def positions(self, w: Array) -> Array:
        """Return a weight whose first axes are the positions of kernels with those of the other."""
        before, after = (layer.positions(self.size[:-1]) for layer in (self.biased, self.free))
        return (_repeat if self.up else _average)(w, before, after)

    def bias(self, w: Array) -> Array:
        """Return a bias whose first axes are its positions with those of the other layer."""
        before, after = (_bias_positions(layer, self.size) for layer in (self.biased, self.free))
        return (_repeat if self.up else _average)(w, before, after)


def find_transfer(source: nn.Module, target: nn.Module, size: Shape, up: bool) -> Transfer:
    """Return how weights get from `source` to `target`, for an input of `size`.

    Raises `InputError` if the one with less bias cannot represent all that the other one can.
    """
    biased, free = (source, target) if up else (target, source)
    if not (isinstance(biased, ORDER) and isinstance(free, ORDER)):
        raise InputError("; ".join(differences(to_spec(biased), to_spec(free))))
    if ORDER.index(type(biased)) > ORDER.index(type(free)):
        raise InputError(f"{type(free).__name__} has more bias than {type(biased).__name__}")
    may_differ = {"parent", "name", "scale"}
    if isinstance(free, DenseSpatial):
        may_differ |= {"padding_mode", "groups"}
    for field in (f.name for f in dataclasses.fields(ConvBase)):
        old, new = getattr(biased, field), getattr(free, field)
        if old != new and field not in may_differ:
            raise InputError(f"{field} must be the same, got {old} and {new}")
    spec = window_spec(size[:-1], biased.window, biased.strides, biased.padding, biased.dilation)
    before, after = biased.positions(size[:-1]), free.positions(size[:-1])
    for P, Q, n in zip(before, after, spec.out, strict=False):
        if Q % P and n > Q:
            raise InputError(f"period must be a multiple of {before}, got {after}")
    if free.use_bias and _bias_positions(biased, size) and not _bias_positions(free, size):
        raise InputError("bias must be 'untied', as in the layer with more bias, got 'tied'")
    if isinstance(free, DenseSpatial):
        for mask, limit in zip(_masks(biased, spec), _masks(free, spec), strict=True):
            if (mask & ~limit).any():
                raise InputError(f"radius must cover what the other layer sees, got {free.radius}")
    return Transfer(biased, free, spec, size, up)


def _masks(layer: ConvBase, spec: WindowSpec) -> list[np.ndarray]:
    """Return for each axis, as `(size, out)`, whether an output has a weight for an input."""
    if isinstance(layer, DenseSpatial):
        return ops.radius_masks(spec, layer.radius, layer.padding_mode)
    return [np.any(mask, -1) for mask in tap_masks(spec, layer.padding_mode)]


def _bias_positions(layer: ConvBase, size: Shape) -> Shape:
    """Return the number of biases of a channel, per axis; empty if there is one."""
    return () if getattr(layer, "tied_bias", False) else layer.positions(size[:-1])


def _repeat(w: Array, before: Shape, after: Shape) -> Array:
    """Return w[p mod before] for p below `after`."""
    periods = before or (1,) * len(after)
    w = w.reshape(*periods, *w.shape[len(before) :])
    for axis, (P, n) in enumerate(zip(periods, after, strict=False)):
        w = jnp.take(w, np.arange(n) % P, axis)
    return w


def _average(w: Array, before: Shape, after: Shape) -> Array:
    """Return the mean over the p below `after` that `_repeat` makes equal."""
    for axis, (P, n) in enumerate(zip(before or (1,) * len(after), after, strict=False)):
        phases = _phases(P, n)
        mean = jnp.asarray(phases / phases.sum(1, keepdims=True), w.dtype)
        w = jnp.moveaxis(jnp.tensordot(mean, w, (1, axis)), 0, axis)
    return w.reshape(*before, *w.shape[len(after) :])


def _phases(period: int, count: int) -> np.ndarray:
    """Return the matrix `(period, count)` that is 1 where p mod `period` = q, else 0."""
    return (np.arange(count) % period == np.arange(period)[:, None]).astype(np.float32)


def _solve_windows(w: Array, layer: ConvBase, spec: WindowSpec) -> Array:
    """Solve W[i, p] = Σ_a S[i, p, a] · w[p mod P, a] for w by least squares, axis by axis.

    The normal equations of an axis and phase q are G w = Σ_p Σ_i S[i, p, a] W[i, p] with
    G[a, b] = Σ_p Σ_i S[i, p, a] · S[i, p, b], sums over the p of phase q.
    """
    rank, positions = len(spec.out), layer.positions(spec.size)
    period = positions or (1,) * rank
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
    kernel = jnp.einsum("...gigo->...igo", blocks).reshape(*full.shape[:-2], -1, c_out)
    return kernel if positions else kernel.reshape(kernel.shape[rank:])
