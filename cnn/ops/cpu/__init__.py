"""How an operation is computed where its definition in `lax` was measured to be slow.

On a CPU, by shape, in float32 and float64:

- convolution with one tap, in one group: `pointwise`, one matrix product;
- convolution with as many groups as channels, in and out, and at most 32 taps: `depthwise`,
  shifted products;
- convolution with at most 16 channels, in and out (or 4 and 64), or with at most 32 in and more
  than 9 taps along two or three axes, stride and dilation 1, in one group: `toeplitz`, blocks of
  neighbouring outputs; with a kernel for every position, `local_toeplitz`;
- convolution with a 3×3 window, at least 24 channels, in and out, stride and dilation 1, in one
  group: `winograd`, unless there are too few positions to be worth transforming the kernel;
- any other convolution in one group with at most 32 taps: the definition, but `by_taps` for the
  kernel's gradient;
- max-pooling with at most 16 taps: `max_pool`, shifted maxima;
- a dense layer of 65,536 weights or more: `product`, its two gradients together.

All else, and everything on a GPU or TPU, is the definition. `with use("reference"):` makes it so
everywhere, or `CNN_LOWERING=reference` in the environment before the program starts.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cnn.errors import InputError
from cnn.ops.cpu.depthwise import depthwise
from cnn.ops.cpu.kernel_gradient import by_taps
from cnn.ops.cpu.matmul import product
from cnn.ops.cpu.pointwise import pointwise
from cnn.ops.cpu.pool import max_pool
from cnn.ops.cpu.toeplitz import local_toeplitz, toeplitz
from cnn.ops.cpu.winograd import winograd
from cnn.ops.window import WindowSpec

Op = Callable[..., Array]

MOST_COPIED = 2**28
"""Bytes that `toeplitz` may copy where channels are more than 16."""


def conv_on_cpu(definition: Op, x: Array, kernel: Array, at: WindowSpec, groups: int) -> Op | None:
    """Return the lowering of a convolution, None for the definition."""
    c_in, c_out = kernel.shape[-2:]
    taps, tiles = math.prod(at.window), len(x) * math.prod(at.out) // 16
    if not _native(x.dtype):
        return None
    if c_in == 1 and groups == c_out > 1 and taps <= 32:
        return partial(depthwise, at=at)
    if groups > 1:
        return None
    if taps == 1:
        return partial(pointwise, at=at)
    if _moves_by_one(at) and _pays_in_blocks(x, kernel):
        return partial(toeplitz, at=at)
    wide = min(c_in, c_out) >= 24 and max(c_in, c_out) <= 4 * tiles
    if _moves_by_one(at) and at.window == (3, 3) and wide:
        return partial(winograd, at=at)
    return partial(by_taps, at=at, definition=definition) if taps <= 32 else None


def conv_local_on_cpu(x: Array, kernel: Array, at: WindowSpec, groups: int) -> Op | None:
    """Return the lowering of a convolution that is not shared, None for the definition."""
    fits = _moves_by_one(at) and max(kernel.shape[-2:]) <= 16
    return partial(local_toeplitz, at=at) if groups == 1 and fits and _native(x.dtype) else None


def _pays_in_blocks(x: Array, kernel: Array) -> bool:
    """Whether `toeplitz` was measured to be faster, and copies no more than it may."""
    *window, c_in, c_out = kernel.shape
    if c_in <= 16 and c_out <= (64 if c_in <= 4 else 16):
        return True
    taps = math.prod(window)
    copied = x.size * taps * x.dtype.itemsize  # at most, for what every tap sees
    return len(window) > 1 and c_in <= 32 and taps > 9 and copied <= MOST_COPIED


def _moves_by_one(at: WindowSpec) -> bool:
    return set(at.strides + at.dilation) == {1}


def max_pool_on_cpu(dtype: jnp.dtype, at: WindowSpec) -> Op | None:
    """Return the lowering of max-pooling, None for the definition."""
    return partial(max_pool, at=at) if _native(dtype) and math.prod(at.window) <= 16 else None


def dense_on_cpu(x: Array, kernel: Array) -> Op | None:
    """Return the lowering of a dense layer, None for the definition."""
    return product if kernel.size >= 2**16 and _native(x.dtype) else None


def _native(dtype: jnp.dtype) -> bool:
    """Whether sums of this type are rounded as finely as `lax` rounds them (bfloat16's are not)."""
    return dtype in (jnp.float32, jnp.float64)


_asked = jax.make_user_context(default_value=None)  # what is compiled under one is not reused


def use(lowering: Literal["fastest", "reference"]) -> AbstractContextManager[None]:
    """Return a context in which operations are computed so, whatever the environment says.

    Raises `InputError` if it is neither "fastest" nor "reference".
    """
    return _asked(_known("lowering", lowering))


def compute(definition: Op, on_cpu: Op | None, *arrays: Array) -> Array:
    """Apply `on_cpu` on a CPU and the `definition` elsewhere, or where there is no other.

    Raises `InputError` for a value of CNN_LOWERING that means nothing.
    """
    environment = _known("CNN_LOWERING", os.environ.get("CNN_LOWERING", "fastest"))
    if on_cpu is None or (_asked.value or environment) == "reference":
        return definition(*arrays)
    return lax.platform_dependent(*arrays, cpu=on_cpu, default=definition)


def _known(name: str, value: str) -> str:
    if value not in ("fastest", "reference"):
        raise InputError(f"{name} {value!r} is unknown: choose 'fastest' or 'reference'")
    return value
