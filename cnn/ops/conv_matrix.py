"""A convolution as a dense layer whose weights are local and shared.

Zhang et al. (Dive into Deep Learning, section 7.1) start from a dense layer between maps, remove
the weights beyond a neighbourhood, and share the rest between positions. In the other direction,
with S for each spatial axis,

    S[i, p, a] = 1 where tap a of the window at p sees position i, else 0
    W[i, c, p, o] = Σ_a S[i, p, a] · kernel[a, c, o]

W is zero where i − s·p is outside the window, and depends on i − s·p alone.
"""

import math
from collections.abc import Sequence
from typing import Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from cnn.errors import InputError
from cnn.ops.checks import promote_floats
from cnn.ops.options import ConvOptions, conv_spec
from cnn.ops.padding import PaddingMode, sources
from cnn.ops.window import MAX_SIZE, WindowSpec


def conv_matrix(
    kernel: Float[Array, "*window c_in_per_group c_out"],
    input_shape: Sequence[int],
    **options: Unpack[ConvOptions],
) -> Float[Array, "*in_and_out c_out"]:
    """Return the kernel with which `dense_spatial` equals `conv`, or `conv_local`.

    `dense_spatial(x, conv_matrix(kernel, x.shape[1:]))` equals `conv(x, kernel)`. The matrix on
    flattened inputs is `conv_matrix(kernel, shape).reshape(math.prod(shape), -1)`.
    """
    (kernel,) = promote_floats(kernel=kernel)
    rank = len(input_shape) - 1
    positions = rank if kernel.ndim == 2 * rank + 2 else 0
    spec, mode, groups = conv_spec((1, *input_shape), kernel.shape, positions, **options)
    _check_entries(spec, math.prod(kernel.shape[-2:]) * groups)
    masks = [jnp.asarray(s, kernel.dtype) for s in tap_masks(spec, mode)]
    i, p, a = "ijk"[:rank], "pqr"[:rank], "abc"[:rank]
    sums = ",".join(map("".join, zip(i, p, a, strict=True)))
    shared = f"{p[:positions]}{a}mo"
    return jnp.einsum(f"{sums},{shared}->{i}m{p}o", *masks, _ungroup(kernel, groups))


def tap_masks(
    spec: WindowSpec, padding_mode: PaddingMode
) -> list[Bool[np.ndarray, "n out window"]]:
    """Return S of each axis: whether a tap of the window at an output sees an input position."""
    masks = []
    padded = sources(spec.size, spec.pairs, padding_mode)
    for positions, n, k, s, _, r, out in zip(padded, *spec, spec.out, strict=True):
        seen = positions[np.arange(out)[:, None] * s + np.arange(k) * r]
        masks.append(seen == np.arange(n)[:, None, None])
    return masks


def _check_entries(spec: WindowSpec, channels: int = 1) -> None:
    """Raise `InputError` if there are more pairs of inputs and outputs than JAX can index."""
    if math.prod((*spec.size, *spec.out, channels)) > MAX_SIZE:
        raise InputError(
            f"the matrix between maps of sizes {spec.size} and {spec.out} must have below 2^31 "
            "entries: use a smaller input or less padding"
        )


def radius_masks(
    spec: WindowSpec, radius: int | None, padding_mode: PaddingMode
) -> list[Bool[np.ndarray, "n out"]]:
    """Return, for each axis, which inputs are at most `radius` from the centre of each window.

    The centre of an even window is between two positions. Without a radius all inputs are. With
    `padding_mode` "circular" the distance is measured around the border.
    """
    if radius is not None and radius < 0:
        raise InputError(f"radius must be at least 0, or None for no limit, got {radius}")
    _check_entries(spec)
    masks = []
    for n, k, s, (lo, _), r, out in zip(*spec, spec.out, strict=True):
        distance = np.abs(np.arange(n)[:, None] - (np.arange(out) * s - lo + r * (k - 1) / 2))
        if padding_mode == "circular":
            distance = np.minimum(distance % n, -distance % n)
        masks.append(distance <= (np.inf if radius is None else radius))
    return masks


def dense_mask(masks: list[np.ndarray], dtype: jnp.dtype) -> Float[Array, "*in_and_out one"]:
    """Return the outer product of one mask `(n, out)` per axis, as a factor of a dense kernel."""
    i, p = "ijk"[: len(masks)], "pqr"[: len(masks)]
    axes = [jnp.asarray(mask, dtype) for mask in masks]
    product = jnp.einsum(",".join(map("".join, zip(i, p, strict=True))) + f"->{i}{p}", *axes)
    return jnp.expand_dims(product, (len(masks), -1))


def _ungroup(kernel: Array, groups: int) -> Float[Array, "*window c_in c_out"]:
    """Return a grouped kernel as an ordinary one, with zeros between the groups."""
    *window, i, o = kernel.shape
    blocks = kernel.reshape(*window, i, groups, o // groups)
    blocks = jnp.einsum("...igo,hg->...higo", blocks, jnp.eye(groups, dtype=kernel.dtype))
    return blocks.reshape(*window, groups * i, o)
