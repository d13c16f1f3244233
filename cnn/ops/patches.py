"""The input values that each window covers."""

import itertools

import jax.numpy as jnp
from jax import lax
from jaxtyping import Array, Float

from cnn.ops.checks import check_input, promote_floats
from cnn.ops.padding import PaddingMode, pad
from cnn.ops.window import Padding, Size, WindowSpec, window_spec


def patches(
    x: Float[Array, "batch *spatial c"],
    window: Size,
    *,
    strides: Size = 1,
    padding: Padding = "VALID",
    padding_mode: PaddingMode = "zeros",
    dilation: Size = 1,
) -> Float[Array, "batch *out_and_window c"]:
    """Return the inputs of each output position: x[b, s·p + r·a − lo, c]."""
    (x,) = promote_floats(x=x)
    check_input(x.shape)
    spec = window_spec(x.shape[1:-1], window, strides, padding, dilation)
    views = jnp.stack(shifted_views(pad(x, spec.pairs, padding_mode), spec), axis=x.ndim - 1)
    return views.reshape(x.shape[0], *spec.out, *spec.window, x.shape[-1])


def shifted_views(padded: Array, spec: WindowSpec, first_axis: int = 1) -> list[Array]:
    """Return one strided slice for each tap, in row-major order: its input at every output.

    `padded` includes the padding of `spec`, and its spatial axes start at `first_axis`.
    """
    views = []
    for a in itertools.product(*map(range, spec.window)):
        view = padded
        for axis, (i, r, s, n) in enumerate(
            zip(a, spec.dilation, spec.strides, spec.out, strict=True)
        ):
            view = lax.slice_in_dim(view, r * i, r * i + (n - 1) * s + 1, s, first_axis + axis)
        views.append(view)
    return views
