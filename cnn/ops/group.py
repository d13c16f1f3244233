"""Group convolution: one kernel for all positions, and for all rotations and reflections.

A transformation r moves the kernel over its window, and permutes the transformations s that its
input channels belong to (Cohen and Welling 2016, eq. 10 and 11):

    y[p, o, r] = bias[o] + Σ_a Σ_c       x[p + a, c]    · kernel[r⁻¹ a, c, o]            lifting
    y[p, o, r] = bias[o] + Σ_a Σ_c Σ_s   x[p + a, c, s] · kernel[r⁻¹ a, r⁻¹ s, c, o]     group

with taps a counted from the centre of the window. If the input is turned by t, so that it becomes
x[t⁻¹ p, c, t⁻¹ s], then the output becomes y[t⁻¹ p, o, t⁻¹ r]: it is turned, too, and its channels
are permuted within each feature.

**Layout.** A feature is one channel for each of the |G| transformations, and these are adjacent:
channel i·|G| + r. So a map with features is a map like any other. Activations, pooling, residual
and concatenated branches, and groups of features apply to it without change, and keep the symmetry.
Batch normalization needs one mean and variance per feature (`cnn.layers.BatchNormGroup`).

**Order.** Transformation r = 4·m + k first reflects the last axis if m = 1, and then rotates by 90°
from the first axis to the second, as `jnp.rot90` does, k times. "p4" has the four rotations, "p4m"
all eight, and "flip", for one axis, the identity and the reflection.

**Grid.** The symmetry is exact if the windows cover the input symmetrically: equal padding on both
sides, and strides that divide size + padding − window. Other cases are refused here. A pooling does
not know of the symmetry: `max_pool(x, 2)` of an odd size leaves out the last position and breaks it
(Edixhoven, Lengyel and van Gemert 2023).
"""

from typing import Literal, Unpack

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cnn.errors import InputError, unknown_name
from cnn.ops.checks import check_bias, check_groups, check_input, promote_floats
from cnn.ops.conv import conv
from cnn.ops.options import ConvOptions, conv_spec
from cnn.ops.pool import max_pool_channels
from cnn.ops.window import WindowSpec, dilated, window_spec

Group = Literal["flip", "p4", "p4m"]
"""A group of transformations that fix the centre: of one axis "flip", of two "p4" and "p4m"."""

_GROUPS: dict[str, tuple[int, int, int]] = {"flip": (1, 1, 2), "p4": (2, 4, 1), "p4m": (2, 4, 2)}
"""Of each group the number of axes, of rotations and of reflections."""


def group_order(group: Group) -> int:
    """Return |G|, the number of transformations: 2 of "flip", 4 of "p4", 8 of "p4m"."""
    _, rotations, reflections = _parts(group)
    return rotations * reflections


def conv_group(
    x: Float[Array, "batch *spatial c"],
    kernel: Float[Array, "*window_and_group c_in_per_group c_out"],
    bias: Float[Array, " c_out"] | None = None,
    *,
    group: Group,
    **options: Unpack[ConvOptions],
) -> Float[Array, "batch *out features"]:
    """Return the lifting or group convolution: `conv` with the kernel `group_kernel(kernel)`.

    Args:
      x: `(batch, *spatial, c_in)` for the lifting convolution, `(batch, *spatial, c_in · |G|)` for
        the group convolution, with the layout of `cnn.ops.group`.
      kernel: `(*window, c_in / groups, c_out)` to lift, `(*window, |G|, c_in / groups, c_out)` for
        a group convolution. Windows of two axes must be square.
      bias: `(c_out,)`, one for all transformations, or None.
      group: "p4" or "p4m" for two spatial axes, "flip" for one.
      **options: As in `conv`. `groups` are groups of features.

    Returns:
      `(batch, *out, c_out · |G|)`.

    Raises:
      InputError: If the kernel does not fit, or the windows do not cover the input symmetrically.

    Reference:
      Cohen and Welling, "Group Equivariant Convolutional Networks" (2016).
    """
    x, kernel = promote_floats(x=x, kernel=kernel)
    check_input(x.shape)
    check_axes(group, x.ndim - 2)
    plain, groups = group_kernel(kernel, group), options.get("groups", 1)
    check_groups(groups, {"output features": kernel.shape[-1]})
    if (channels := plain.shape[-2] * groups) != x.shape[-1]:
        raise InputError(
            f"x must have {channels} channels for a kernel of shape {kernel.shape} and "
            f"groups={groups}, got {x.shape[-1]}"
        )
    spec, *_ = conv_spec(x.shape, plain.shape, **options)
    _check_grid(spec, group, options)
    if bias is not None:
        check_bias(bias, kernel.shape[-1:])
        bias = jnp.repeat(bias, group_order(group))
    return conv(x, plain, bias, **options)


def group_kernel(
    kernel: Float[Array, "*window_and_group c_in c_out"], group: Group
) -> Float[Array, "*window channels_in channels_out"]:
    """Return the kernel with which `conv` equals `conv_group`, with |G| copies of each weight.

    A group kernel `(*window, |G|, c_in, c_out)` becomes `(*window, c_in · |G|, c_out · |G|)`, and a
    lifting kernel `(*window, c_in, c_out)` becomes `(*window, c_in, c_out · |G|)`.
    """
    rank, rotations, reflections = _parts(group)
    order, window = rotations * reflections, kernel.shape[:rank]
    if kernel.ndim not in (rank + 2, rank + 3):
        raise InputError(
            f"kernel must have {rank + 2} axes (*window, c_in, c_out) to lift, or {rank + 3} "
            f"(*window, {order}, c_in, c_out) for a group convolution, got shape {kernel.shape}"
        )
    if len(set(window)) > 1:
        raise InputError(f"window must be square for group {group!r}, got {window}")
    lifting = kernel.ndim == rank + 2
    if not lifting and kernel.shape[rank] != order:
        raise InputError(
            f"kernel must have {order} transformations on axis {rank + 1} for group {group!r}, got "
            f"shape {kernel.shape}"
        )
    copies = []
    for r, inputs in enumerate(_input_orders(rotations, reflections)):
        copy = kernel if lifting else jnp.take(kernel, inputs, rank)
        if r >= rotations:
            copy = jnp.flip(copy, rank - 1)
        copies.append(jnp.rot90(copy, r % rotations, (0, 1)) if r % rotations else copy)
    made = jnp.stack(copies, -1)
    made = made.reshape(*made.shape[:-2], kernel.shape[-1] * order)
    if lifting:
        return made
    return jnp.moveaxis(made, rank, -2).reshape(*window, kernel.shape[-2] * order, -1)


def group_pool(
    x: Float[Array, "*shape c"], group: Group, kind: Literal["max", "mean"] = "max"
) -> Float[Array, "*shape c_out"]:
    """Return the largest value, or the mean, of each feature over its |G| transformations.

    The result does not depend on how the channels are permuted within a feature. So a map is
    turned with the input, and the output of a global pooling does not change at all.
    """
    (x,) = promote_floats(x=x)
    order = group_order(group)
    if kind not in ("max", "mean"):
        raise unknown_name("kind", kind, ["max", "mean"])
    check_features(x.shape[-1], group)
    if kind == "max":
        return max_pool_channels(x, order)
    return x.reshape(*x.shape[:-1], x.shape[-1] // order, order).mean(-1)


def check_features(channels: int, group: Group) -> None:
    """Raise `InputError` unless channels are those of features of `group`."""
    if channels % (order := group_order(group)):
        raise InputError(
            f"channels must be a multiple of {order}, one for each transformation of group "
            f"{group!r}, got {channels}"
        )


def check_axes(group: Group, rank: int) -> None:
    """Raise `InputError` unless the group is one of transformations of `rank` spatial axes."""
    if (axes := _parts(group)[0]) != rank:
        fitting = [repr(name) for name, parts in _GROUPS.items() if parts[0] == rank]
        raise InputError(
            f"group must fit {rank} spatial axes, got {group!r}, which is for {axes}: "
            + (f"choose {' or '.join(fitting)}" if fitting else "there is none, use conv")
        )


def _parts(group: str) -> tuple[int, int, int]:
    if group not in _GROUPS:
        raise unknown_name("group", group, _GROUPS)
    return _GROUPS[group]


def _input_orders(rotations: int, reflections: int) -> list[np.ndarray]:
    """Return for each r the numbers of r⁻¹ s for all s.

    With the rotation R and the reflection F, r = Rᵏ Fᵐ, and F R = R⁻¹ F. So r⁻¹ s is
    Fᵐ R⁻ᵏ Rˡ Fⁿ = R^(±(l − k)) F^(m + n), with − if m = 1.
    """
    reflected, rotated = np.divmod(np.arange(rotations * reflections), rotations)  # n and l of s
    orders = []
    for m in range(reflections):
        for k in range(rotations):
            turn = (-1) ** m * (rotated - k) % rotations
            orders.append((m + reflected) % 2 * rotations + turn)
    return orders


def _check_grid(spec: WindowSpec, group: str, options: ConvOptions) -> None:
    """Raise `InputError` unless turned windows of an input are the windows of a turned input."""
    padding = options.get("padding", "VALID")
    turned = window_spec(spec.size[::-1], spec.window, spec.strides, padding, spec.dilation)
    uneven = {
        "strides": (spec.strides, len(set(spec.strides)) > 1),
        "dilation": (spec.dilation, len(set(spec.dilation)) > 1),
        "padding": (padding, turned.pairs[::-1] != spec.pairs),
    }
    for name, (value, differs) in uneven.items():
        if differs:
            raise InputError(
                f"{name} must be the same on both axes for group {group!r}, got {value!r}"
            )
    spans = dilated(spec.window, spec.dilation)
    for axis, (n, s, (lo, hi), d) in enumerate(
        zip(spec.size, spec.strides, spec.pairs, spans, strict=True), 1
    ):
        if lo != hi:
            raise InputError(
                f"padding must be the same on both sides for group {group!r}, got {(lo, hi)} on "
                f"axis {axis}: use an odd window, or pad by an int"
            )
        if excess := (n + lo + hi - d) % s:
            raise InputError(
                f"strides must divide size + padding − window for group {group!r}, got strides {s} "
                f"and {n} + {lo + hi} − {d} on axis {axis}: use a map of size {n - excess} or "
                f"{n - excess + s}, or strides 1"
            )
