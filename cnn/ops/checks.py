"""Checks of arrays that the operations share, and the addition of a bias."""

import numbers

import jax.numpy as jnp
from jaxtyping import Array, ArrayLike, Float

from cnn.errors import InputError


def promote_floats(**arrays: ArrayLike) -> list[Array]:
    """Return the named arrays in their common type, which must be floating-point.

    Integers overflow and have no gradient.
    """
    values = {name: jnp.asarray(array) for name, array in arrays.items()}
    for name, value in values.items():
        if not jnp.issubdtype(value.dtype, jnp.floating):
            raise InputError(
                f"{name} must have a floating-point type, got {value.dtype}: "
                f"convert it with {name}.astype(jnp.float32)"
            )
    common = jnp.result_type(*values.values())
    return [value.astype(common) for value in values.values()]


def check_input(shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless `shape` is `(batch, *spatial, channels)`, 1 to 3 axes spatial."""
    if not 3 <= len(shape) <= 5:
        raise InputError(
            "x must have the shape (batch, *spatial, channels) with 1, 2 or 3 spatial axes, "
            f"got {shape}"
        )


def check_kernel(
    x: tuple[int, ...], kernel: tuple[int, ...], groups: int, positions: int = 0
) -> None:
    """Raise `InputError` unless a kernel fits `x`; the arguments are as in `conv_spec`."""
    check_input(x)
    if len(kernel) != len(x) + positions:
        layout = "*positions, *window" if positions else "*window"
        raise InputError(
            f"kernel must have {len(x) + positions} axes ({layout}, c_in / groups, c_out) "
            f"for x of shape {x}, got shape {kernel}"
        )
    check_groups(groups, {"input channels": x[-1], "output channels": kernel[-1]})
    if kernel[-2] * groups != x[-1]:
        raise InputError(
            f"kernel must have c_in / groups = {x[-1] // groups} as its second last axis for x of "
            f"shape {x} and groups={groups}, got shape {kernel}"
        )


def check_groups(groups: int, channels: dict[str, int]) -> None:
    """Raise `InputError` unless `groups` is an int that divides each number of channels."""
    for name, count in channels.items():
        if not isinstance(groups, numbers.Integral) or groups < 1 or count % groups:
            raise InputError(f"groups must divide the {name}: got groups={groups}, {name}={count}")


def add_bias(
    y: Float[Array, "batch *out c"], bias: Array | None, positions: tuple[int, ...] = ()
) -> Float[Array, "batch *out c"]:
    """Return `y` + `bias`, which is None, or of shape `(c,)` or `(*positions, c)`."""
    if bias is None:
        return y
    check_bias(bias, (*positions, y.shape[-1]))
    return y + jnp.expand_dims(bias, tuple(range(y.ndim - bias.ndim)))


def check_bias(bias: Array, shape: tuple[int, ...]) -> None:
    """Raise `InputError` unless `bias` has `shape`, or the last axis of it."""
    if bias.shape not in (shape[-1:], shape):
        allowed = " or ".join(map(str, dict.fromkeys((shape[-1:], shape))))
        raise InputError(f"bias must have shape {allowed}, got {bias.shape}")
