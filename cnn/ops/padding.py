"""Padding: the values that windows see beyond the border."""

from typing import Literal

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Shaped

from cnn.errors import InputError, unknown_name
from cnn.ops.window import Pairs, check_positions

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
"""The values beyond the border of the signal a b c.

- `"zeros"`: 0 0 | a b c | 0 0
- `"reflect"`, mirrored about the outermost position: c b | a b c | b a
- `"replicate"`, the outermost value repeated: a a | a b c | c c
- `"circular"`, wrapped around: b c | a b c | a b
"""

_NUMPY: dict[PaddingMode, Literal["constant", "reflect", "edge", "wrap"]] = {
    "zeros": "constant",
    "reflect": "reflect",
    "replicate": "edge",
    "circular": "wrap",
}


def pad(
    x: Shaped[Array, "batch *spatial c"], pairs: Pairs, mode: PaddingMode = "zeros"
) -> Shaped[Array, "batch *padded c"]:
    """Return `x` with `pairs` (before, after) of positions added; negative ones are removed.

    "reflect" adds at most size − 1 positions on a side, and "circular" at most size.
    """
    _check(x.shape[1:-1], pairs, mode)
    x = jnp.pad(x, ((0, 0), *_added(pairs), (0, 0)), mode=_NUMPY[mode])
    return x[(slice(None), *_kept(pairs))]


def pad_constant(
    value: float, x: Float[Array, "batch *spatial c"], pairs: Pairs
) -> Float[Array, "batch *padded c"]:
    """Return `x` padded with `value`; negative `pairs` remove positions."""
    if not any(map(any, pairs)):
        return x
    return lax.pad(x, jnp.array(value, x.dtype), [(0, 0, 0), *((*p, 0) for p in pairs), (0, 0, 0)])


def finite(x: Float[Array, "..."]) -> Float[Array, "..."]:
    """Return `x` with the smallest finite number in place of −inf, which is larger than padding."""
    return jnp.maximum(x, jnp.finfo(x.dtype).min)


def sources(size: tuple[int, ...], pairs: Pairs, mode: PaddingMode) -> list[np.ndarray]:
    """Return, for each axis, the input position at each padded position, −1 for a zero."""
    _check(size, pairs, mode)
    counted = [np.arange(1, n + 1) for n in size]  # from 1, so that a padded 0 becomes −1
    padded = [np.pad(n, p, _NUMPY[mode]) - 1 for n, p in zip(counted, _added(pairs), strict=True)]
    return [n[kept] for n, kept in zip(padded, _kept(pairs), strict=True)]


def _added(pairs: Pairs) -> Pairs:
    return tuple((max(lo, 0), max(hi, 0)) for lo, hi in pairs)


def _kept(pairs: Pairs) -> list[slice]:
    return [slice(max(-lo, 0), min(hi, 0) or None) for lo, hi in pairs]


def _check(size: tuple[int, ...], pairs: Pairs, mode: PaddingMode) -> None:
    if mode not in _NUMPY:
        raise unknown_name("padding_mode", mode, _NUMPY)
    check_positions("the padded size", [n + sum(pair) for n, pair in zip(size, pairs, strict=True)])
    for axis, (n, pair) in enumerate(zip(size, pairs, strict=True), 1):
        most = {"reflect": n - 1, "circular": n}.get(mode, max(pair))
        if max(pair) > most:
            raise InputError(
                f"{mode} padding must be at most {most} on axis {axis} of size {n}, "
                f"got {max(pair)}: pad less, or use padding_mode 'replicate' or 'zeros'"
            )
