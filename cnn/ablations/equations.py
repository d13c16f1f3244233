"""Equations of a program as layers of `cnn.layers`, and layers in the place of equations."""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend.core import JaxprEqn
from jaxtyping import Array

from cnn.geometry.jaxpr import aval, evaluate
from cnn.layers import AvgPool, Conv, MaxPool
from cnn.ops.window import Pairs

Shape = tuple[int, ...]


class Convolution(NamedTuple):
    """A `conv_general_dilated`, as a layer without a bias."""

    layer: Conv
    shape: Shape
    """Of the input, `(*spatial, channels)`."""
    kernel_axes: Shape
    """The axes of the kernel in the order `(*window, c_in / groups, c_out)`."""
    channels: int
    """The axis of the output's channels."""
    dtype: Any
    """The type of the output."""
    refused: str
    """Why the layer is not all that the equation is."""


def convolution(eqn: JaxprEqn) -> Convolution:
    """Return the layer that a `conv_general_dilated` is."""
    params, numbers = eqn.params, eqn.params["dimension_numbers"]
    x, kernel = (aval(variable).shape for variable in eqn.invars)
    features, c_in, *window = numbers.rhs_spec
    layer = Conv(
        kernel[features],
        window=tuple(kernel[axis] for axis in window),
        strides=tuple(params["window_strides"]),
        padding=tuple(map(tuple, params["padding"])),
        dilation=tuple(params["rhs_dilation"]),
        groups=params["feature_group_count"],
        use_bias=False,
        parent=None,
    )
    refused = ""
    if set(params["lhs_dilation"]) != {1} or params["batch_group_count"] != 1:
        refused = "it is a transposed convolution, or the gradient of one"
    elif not 1 <= len(window) <= 3:
        refused = f"it has {len(window)} spatial axes"
    _, channels, *spatial = numbers.lhs_spec
    shape = (*(x[axis] for axis in spatial), x[channels])
    axes, dtype = (*window, c_in, features), aval(eqn.outvars[0]).dtype
    return Convolution(layer, shape, axes, numbers.out_spec[1], dtype, refused)


def run_convolution(eqn: JaxprEqn, layer: nn.Module, params: Any, x: Array) -> Array:
    """Apply `layer` in the place of a `conv_general_dilated`."""
    numbers, precision = eqn.params["dimension_numbers"], eqn.params["precision"]
    batch, channels, *spatial = numbers.lhs_spec
    with jax.default_matmul_precision(precision[0].name.lower() if precision else None):
        y: Any = layer.apply({"params": params}, x.transpose(batch, *spatial, channels))
    batch, channels, *spatial = numbers.out_spec
    y = jnp.moveaxis(y, range(y.ndim), (batch, *spatial, channels))
    return y.astype(aval(eqn.outvars[0]).dtype)


def max_pool(eqn: JaxprEqn) -> tuple[MaxPool, Shape] | None:
    """Return the layer that a `reduce_window_max` is, and its input's shape; None for neither."""
    if (axes := _pooled_axes(eqn)) is None:
        return None
    return MaxPool(*_windows(eqn, axes), parent=None), _pooled_shape(eqn, axes)


def avg_pool(eqn: JaxprEqn, divisor: np.ndarray) -> tuple[AvgPool, Shape] | None:
    """Return the layer that a `reduce_window_sum` divided by `divisor` is, if that is a mean."""
    if (axes := _pooled_axes(eqn)) is None or set(eqn.params["window_dilation"]) != {1}:
        return None
    window, strides, padding, _ = _windows(eqn, axes)
    x = aval(eqn.invars[0])
    ones = np.ones([n if axis in axes else 1 for axis, n in enumerate(x.shape)], x.dtype)
    with jax.ensure_compile_time_eval():
        (inside,) = evaluate(eqn, ones)
    counts = {False: np.asarray(inside), True: np.asarray(math.prod(window))}
    for count_padding, count in counts.items():
        if divisor.ndim in (0, count.ndim) and np.all(np.abs(divisor / count - 1) < 1e-6):
            layer = AvgPool(window, strides, padding, count_padding, parent=None)
            return layer, _pooled_shape(eqn, axes)
    return None


def run_pool(eqn: JaxprEqn, layer: nn.Module, x: Array) -> Array:
    """Apply `layer` in the place of a `reduce_window_max`, or of a mean."""
    axes = _pooled_axes(eqn) or []
    first, *rest = [axis for axis in range(x.ndim) if axis not in axes]
    order = (first, *axes, *rest)
    moved = x.transpose(order)
    y: Any = layer.apply({}, moved.reshape(*moved.shape[: len(axes) + 1], -1))
    y = y.reshape(*y.shape[:-1], *moved.shape[len(axes) + 1 :])
    return jnp.moveaxis(y, range(y.ndim), order).astype(aval(eqn.outvars[0]).dtype)


def _pooled_axes(eqn: JaxprEqn) -> list[int] | None:
    """Return the axes along which windows lie, if they are one to three beside another axis."""
    names = ("window_dimensions", "window_strides", "padding")
    windows = list(zip(*(eqn.params[name] for name in names), strict=True))
    axes = [axis for axis, (k, s, p) in enumerate(windows) if (k, s, *p) != (1, 1, 0, 0)]
    plain = set(eqn.params["base_dilation"]) == {1} and len(axes) < len(windows)
    return axes if plain and 1 <= len(axes) <= 3 else None


def _pooled_shape(eqn: JaxprEqn, axes: Sequence[int]) -> Shape:
    shape = aval(eqn.invars[0]).shape
    _, *rest = [n for axis, n in enumerate(shape) if axis not in axes]
    return (*(shape[axis] for axis in axes), math.prod(rest))


def _windows(eqn: JaxprEqn, axes: Sequence[int]) -> tuple[Shape, Shape, Pairs, Shape]:
    """Return window, strides, padding and dilation on `axes`."""
    names = ("window_dimensions", "window_strides", "padding", "window_dilation")
    window, strides, padding, dilation = (
        tuple(eqn.params[name][axis] for axis in axes) for name in names
    )
    return window, strides, padding, dilation
