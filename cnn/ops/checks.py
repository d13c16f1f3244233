"""Checks of arrays that the operations share, and the bias that they add."""

from __future__ import annotations

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cnn.errors import InputError


def floats(**arrays: ArrayLike) -> list[Array]:
    """Return the named arrays in their common floating-point type.

    Raises `InputError` for integers, which have no gradient and overflow.
    """
    values = {name: jnp.asarray(array) for name, array in arrays.items()}
    for name, value in values.items():
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise InputError(
                f"{name} has type {value.dtype} but floats are needed: "
                f"convert it with {name}.astype(jnp.float32)"
            )
    common = jnp.result_type(*values.values())
    return [value.astype(common) for value in values.values()]


def check_map(shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless `shape` is `(batch, *spatial, channels)`, 1 to 3 axes spatial."""
    if not 3 <= len(shape) <= 5:
        raise InputError(
            f"x has shape {shape} but (batch, *spatial, channels) with one, two or three spatial "
            "axes is needed: reshape it"
        )


def check_kernel(
    x: tuple[int, ...], kernel: tuple[int, ...], groups: int, positions: int = 0
) -> None:
    """Check the shape of a kernel `(*positions, *window, c_in / groups, c_out)` against that of x.

    `positions` counts the leading axes over which the kernel is not shared.
    Raises `InputError` for a wrong rank or number of channels.
    """
    check_map(x)
    if len(kernel) != len(x) + positions:
        layout = "*positions, *window" if positions else "*window"
        raise InputError(
            f"kernel has shape {kernel} but x {x} needs {len(x) + positions} axes: "
            f"({layout}, c_in / groups, c_out)"
        )
    for name, channels in (("input channels", x[-1]), ("output channels", kernel[-1])):
        if groups < 1 or channels % groups:
            raise InputError(f"groups {groups} does not divide {name} {channels}: use a divisor")
    if kernel[-2] * groups != x[-1]:
        raise InputError(
            f"kernel has shape {kernel} but x {x} with groups {groups} needs "
            f"c_in / groups = {x[-1] // groups} as its last but one axis"
        )


def add_bias(
    y: Float[Array, "batch *out c"], bias: Float[Array, " c"] | None
) -> Float[Array, "batch *out c"]:
    """Return `y` + `bias`, or `y` if there is none. Raises `InputError` for a wrong shape."""
    if bias is None:
        return y
    _check_bias(bias, y.shape[-1:])
    return y + jnp.expand_dims(bias, tuple(range(y.ndim - 1)))


def spread_bias(bias: Array, shape: tuple[int, ...]) -> Float[Array, "*positions c"]:
    """Return a bias `(c,)`, or one of its own `shape` `(*positions, c)`, as the latter.

    Raises `InputError` for any other shape.
    """
    _check_bias(bias, shape[-1:], shape)
    return jnp.broadcast_to(bias, shape)


def _check_bias(bias: Array, *shapes: tuple[int, ...]) -> None:
    if bias.shape not in shapes:
        needed = " or ".join(map(str, shapes))
        raise InputError(f"bias has shape {bias.shape} but the output needs {needed}")
