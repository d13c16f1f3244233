"""A convolution written out as the linear layer that it is.

The derivation (Zhang et al., Dive into Deep Learning, section 7.1) starts from a dense layer
between maps, and takes from it every weight that is not local and every difference between
positions. Read backwards, with the incidence S of one axis,

    S[i, p, a] = 1 where tap a of the window at p sees position i, else 0
    W[i, c, p, o] = Σ_a S[i, p, a] · kernel[a, c, o]

W is zero unless i − s·p is within the window, and depends on i − s·p alone.
"""

from __future__ import annotations

from collections.abc import Sequence

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn.errors import InputError
from cnn.ops.checks import check_kernel, floats
from cnn.ops.padding import PaddingMode, sources
from cnn.ops.window import Padding, Size, WindowSpec, window_spec


def conv_matrix(
    kernel: Float[Array, "*window c_in_per_group c_out"],
    input_shape: Sequence[int],
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
    groups: int = 1,
) -> Float[Array, "*in_spatial c_in *out_spatial c_out"]:
    """Return `conv` on inputs `(*in_spatial, c_in)` as the kernel of `dense_spatial`.

    It has the axes `(*in_spatial, c_in, *out_spatial, c_out)`, so that
    `dense_spatial(x, conv_matrix(kernel, x.shape[1:]))` equals `conv(x, kernel)`. As a matrix that
    maps flat inputs: `conv_matrix(kernel, shape).reshape(math.prod(shape), -1)`. A kernel of
    `conv_local`, which has its positions in front, is written out in the same way.
    Raises `InputError` as `conv` does.
    """
    (kernel,) = floats(kernel=kernel)
    rank = len(input_shape) - 1
    positions = rank if kernel.ndim == 2 * rank + 2 else 0
    check_kernel((1, *input_shape), kernel.shape, groups, positions)
    size, window = tuple(input_shape[:-1]), kernel.shape[positions:-2]
    at = window_spec(size, window, strides, padding, dilation)
    each = [jnp.asarray(s, kernel.dtype) for s in incidence(at, padding_mode)]
    i, p, a = "ijk"[:rank], "pqr"[:rank], "abc"[:rank]
    sums = ",".join(map("".join, zip(i, p, a, strict=True)))
    shared = f"{p[:positions]}{a}mo"
    return jnp.einsum(f"{sums},{shared}->{i}m{p}o", *each, _ungroup(kernel, groups))


def incidence(at: WindowSpec, padding_mode: PaddingMode) -> list[Bool[np.ndarray, "n out window"]]:
    """Return S of each axis: whether the tap of a window sees the position, of the n there are."""
    each = []
    for cells, n, k, s, r, out in zip(
        sources(at.size, at.pairs, padding_mode),
        at.size,
        at.window,
        at.strides,
        at.dilation,
        at.out,
        strict=True,
    ):
        seen = cells[np.arange(out)[:, None] * s + np.arange(k) * r]
        each.append(seen == np.arange(n)[:, None, None])
    return each


def within(
    at: WindowSpec, radius: int | None, padding_mode: PaddingMode
) -> list[Bool[np.ndarray, "n out"]]:
    """Return, for each axis, which positions are at most `radius` from the centre of each window.

    All are for no radius. The centre of an even window lies between two positions. With
    `padding_mode` "circular" the distance is taken around the border.
    Raises `InputError` for a negative radius.
    """
    if radius is not None and radius < 0:
        raise InputError(f"radius {radius} cannot be: give 0 or more, or None for no limit")
    each = []
    for n, k, s, (lo, _), r, out in zip(*at, at.out, strict=True):
        distance = np.abs(np.arange(n)[:, None] - (np.arange(out) * s - lo + r * (k - 1) / 2))
        if padding_mode == "circular":
            distance = np.minimum(distance % n, -distance % n)
        each.append(distance <= (np.inf if radius is None else radius))
    return each


def outer(sees: list[np.ndarray], dtype: jnp.dtype) -> Float[Array, "*in_spatial one *out one"]:
    """Return the product over the axes of 0/1 arrays `(size, out)`, shaped as a dense kernel's."""
    i, p = "ijk"[: len(sees)], "pqr"[: len(sees)]
    axes = [jnp.asarray(axis, dtype) for axis in sees]
    whole = jnp.einsum(",".join(map("".join, zip(i, p, strict=True))) + f"->{i}{p}", *axes)
    return jnp.expand_dims(whole, (len(sees), -1))


def _ungroup(
    kernel: Float[Array, "*window c_in_per_group c_out"], groups: int
) -> Float[Array, "*window c_in c_out"]:
    """Write a grouped kernel as an ordinary one with zeros between the groups."""
    *window, i, o = kernel.shape
    blocks = kernel.reshape(*window, i, groups, o // groups)
    blocks = jnp.einsum("...igo,hg->...higo", blocks, jnp.eye(groups, dtype=kernel.dtype))
    return blocks.reshape(*window, groups * i, o)
