"""What windows see beyond the border."""

from __future__ import annotations

from typing import Literal, get_args

import jax.numpy as jnp
from jaxtyping import Array, Shaped

from cnn.errors import InputError, unknown_name
from cnn.ops.window import Pairs

PaddingMode = Literal["zeros", "reflect", "replicate", "circular"]
"""What stands beyond the border of a b c.

- `"zeros"`: 0 0 | a b c | 0 0
- `"reflect"`, mirrored about the outermost cell: c b | a b c | b a
- `"replicate"`, the outermost cell again: a a | a b c | c c
- `"circular"`, wrapped around: b c | a b c | a b
"""


def pad(
    x: Shaped[Array, "batch *spatial c"], pairs: Pairs, mode: PaddingMode = "zeros"
) -> Shaped[Array, "batch *padded c"]:
    """Add `pairs` of cells (before, after) to the spatial axes of `x`.

    Raises `InputError` for an unknown mode, and where the input is too small to be mirrored
    (padding beyond size − 1) or wrapped around (padding beyond size).
    """
    check_padding(x.shape[1:-1], pairs, mode)
    names = {"zeros": "constant", "reflect": "reflect", "replicate": "edge", "circular": "wrap"}
    return jnp.pad(x, ((0, 0), *pairs, (0, 0)), mode=names[mode])


def check_padding(size: tuple[int, ...], pairs: Pairs, mode: PaddingMode) -> None:
    """Raise `InputError` if a map of `size` cannot be padded by `pairs` in this `mode`."""
    if mode not in get_args(PaddingMode):
        raise unknown_name("padding_mode", mode, get_args(PaddingMode))
    for axis, (n, pair) in enumerate(zip(size, pairs, strict=True), 1):
        widest = {"reflect": n - 1, "circular": n}.get(mode, max(pair))
        if max(pair) > widest:
            raise InputError(
                f"{mode} padding {max(pair)} is wider than the input allows on axis {axis} "
                f"(size {n}, at most {widest}): pad less, or use padding_mode 'replicate'"
            )
