"""Choose the implementation of an operation by platform, shape and dtype.

Each operation has a definition in `lax`, which is correct on every platform. On a CPU, `TABLE`
replaces it for shapes where another implementation, from `cnn.ops.cpu`, was measured to be faster;
on an NVIDIA GPU, `GPU_TABLE` does in bfloat16. A TPU always runs the definition.

`with use("reference"):` selects the definitions everywhere, and so does the environment variable
`CNN_IMPLEMENTATION=reference`.
"""

import math
import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Literal

import jax
import jax.numpy as jnp
from jax import lax
from jaxtyping import Array

from cnn.errors import InputError
from cnn.ops.cpu import (
    depthwise,
    grouped,
    im2col,
    kernel_gradient,
    matmul,
    pool,
    strided,
    toeplitz,
    volumes,
    whole_map,
    winograd,
)
from cnn.ops.gpu import pool as gpu_pool
from cnn.ops.lax_conv import lax_conv
from cnn.ops.window import WindowSpec

Op = Callable[..., Array]
MAX_SHIFTS, MAX_DEPTHWISE = 128, 64
"""The largest window for what takes a slice for each tap, and for `depthwise`: three for each."""
MAX_COPIED = 2**22
"""The most numbers in the matrix of `im2col`: 16 MB in float32, about what a cache holds."""
MAX_TOEPLITZ_TAPS = 1024
"""The largest window for `toeplitz`, which takes slices in proportion to its taps."""
MAX_SLICES, MAX_MATRIX = 256, 2**24
"""The largest map for `whole_map`, which takes a slice for each output position of an axis, and the
largest matrix."""


# The conditions of the table. Each docstring says when, and what the implementation computes.


def _use_depthwise(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """One filter for each of several channels: shifted products."""
    depthwise = kernel.shape[-2] == 1 < x.shape[-1] == kernel.shape[-1]
    return depthwise and math.prod(spec.window) <= MAX_DEPTHWISE


def _use_grouped(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Several groups: convolutions of one group. The definition's gradients are very slow."""
    return not _one_group(x, kernel) and math.prod(spec.window) <= MAX_SHIFTS


def _use_strided(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Windows side by side, large ones on few channels, or many of 3×3 blocks, for Winograd.

    The definition's gradients are slow.
    """
    taps, strides = math.prod(spec.window), math.prod(spec.strides)
    c_in, c_out = kernel.shape[-2:]
    blocks = strided.blocks_of(spec)
    large = 32 < taps <= MAX_TOEPLITZ_TAPS and c_in <= 4
    many = 3 * _copied(x, spec) > MAX_COPIED
    tiled = many and _fits_winograd(blocks, (c_in * strides, c_out), _tiles(x, spec))
    pays = set(blocks) == {1} or large or tiled
    return _one_group(x, kernel) and _cuts(spec) and taps > 1 and pays


def _use_im2col(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """A window of one tap, or windows that need little memory together: one matrix product."""
    taps = math.prod(spec.window)
    small = _copied(x, spec) <= MAX_COPIED and taps <= MAX_SHIFTS
    return _one_group(x, kernel) and (taps == 1 or small)


def _use_whole_map(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """A large window, of at least as many taps as the map has positions: one matrix product."""
    taps, positions = math.prod(spec.window), math.prod(spec.size)
    entries = positions * math.prod(spec.out) * math.prod(kernel.shape[-2:])
    large = taps > 32 and taps >= positions and sum(spec.out) <= MAX_SLICES
    return _one_group(x, kernel) and large and entries <= MAX_MATRIX


def _use_toeplitz(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Few channels: the definition's matrix products are too narrow."""
    small = _unit_steps(spec) and math.prod(spec.window) <= MAX_TOEPLITZ_TAPS
    c_in, c_out = kernel.shape[-2:]
    few = c_in <= min(16, 8 * c_out) and c_out <= (64 if c_in <= 4 else 16)
    return _one_group(x, kernel) and small and few


def _use_toeplitz_for_images(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Images, up to 32 channels and a large window."""
    taps = math.prod(spec.window)
    small = _unit_steps(spec) and 9 < taps <= MAX_TOEPLITZ_TAPS
    bytes_copied = x.size * taps * x.dtype.itemsize  # at most
    few = len(spec.window) > 1 and kernel.shape[-2] <= 32 and bytes_copied <= 2**28
    return _one_group(x, kernel) and small and few


def _use_winograd(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """A 3×3 window, many channels, and enough tiles to be worth transforming the kernel."""
    fits = _fits_winograd(spec.window, kernel.shape[-2:], _tiles(x, spec))
    return _one_group(x, kernel) and _unit_steps(spec) and fits


def _use_kernel_gradient(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Any other small window: the definition, except for the slow gradient of its kernel.

    It is slow for images and with stride 1, and not with very few outputs.
    """
    slow = len(spec.window) > 1 or set(spec.strides) == {1}
    small = math.prod(spec.window) <= 32 and kernel.shape[-1] >= 4
    return _one_group(x, kernel) and small and slow


def _use_volumes(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Three axes: the definition computes images well, and volumes slowly."""
    return _one_group(x, kernel) and len(spec.window) == 3 and spec.window[0] <= 32


def _use_local_toeplitz(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Few channels, as in `_use_toeplitz`, with a kernel for every position."""
    few = max(kernel.shape[-2:]) <= 16 and math.prod(spec.window) <= MAX_TOEPLITZ_TAPS
    return _one_group(x, kernel) and _unit_steps(spec) and few


def _use_local_strided(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """A large window, and few channels also in blocks of positions."""
    c_in, c_out = kernel.shape[-2:]
    few = max(c_in * math.prod(spec.strides), c_out) <= 16
    large = 32 < math.prod(spec.window) <= MAX_TOEPLITZ_TAPS
    return _one_group(x, kernel) and _cuts(spec) and few and large


def _use_max_pool(x: Array, spec: WindowSpec) -> bool:
    """A small window: the maximum of shifted maps."""
    return math.prod(spec.window) <= 16


def _use_gpu_toeplitz(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Few channels, which cuDNN is slow with, most of all as groups: the kernels of many seeds."""
    c_in, c_out = kernel.shape[-2:]
    few = max(c_in, c_out) <= 16 and 1 < math.prod(spec.window) <= 32
    return _one_group(x, kernel) and _unit_steps(spec) and few


def _use_gpu_max_pool(x: Array, spec: WindowSpec) -> bool:
    """Small windows side by side."""
    side_by_side = spec.strides == spec.window and set(spec.dilation) == {1}
    return side_by_side and math.prod(spec.window) <= 16


def _use_matmul(x: Array, kernel: Array) -> bool:
    """Many weights: computing both gradients in one call saves a copy of them."""
    return kernel.size >= 2**16


def _one_group(x: Array, kernel: Array) -> bool:
    return x.shape[-1] == kernel.shape[-2]


def _cuts(spec: WindowSpec) -> bool:
    """Return whether there are strides, no dilation, and blocks with few taps beside the window."""
    covered = math.prod(strided.blocks_of(spec)) * math.prod(spec.strides)
    few_beside = 2 * covered <= 3 * math.prod(spec.window)
    return max(spec.strides) > 1 and set(spec.dilation) == {1} and few_beside


def _copied(x: Array, spec: WindowSpec) -> int:
    """Return the numbers in all windows together."""
    return len(x) * math.prod(spec.out) * math.prod(spec.window) * x.shape[-1]


def _tiles(x: Array, spec: WindowSpec) -> int:
    return len(x) * math.prod(spec.out) // 16


def _fits_winograd(window: Sequence[int], channels: Sequence[int], tiles: int) -> bool:
    return tuple(window) == (3, 3) and min(channels) >= 24 and max(channels) <= 4 * tiles


def _unit_steps(spec: WindowSpec) -> bool:
    return set(spec.strides + spec.dilation) == {1}


def _in_one_group(x: Array, kernel: Array, spec: WindowSpec) -> Array:
    """Convolve by the implementation for this shape, or else by the definition."""
    convolve = choose("conv", x, kernel, spec=spec) or lax_conv(spec)
    return convolve(x, kernel)


TABLE: dict[str, Sequence[tuple[Op, Callable[..., bool]]]] = {
    "conv": (
        (depthwise.depthwise, _use_depthwise),
        (partial(grouped.grouped, convolve=_in_one_group), _use_grouped),
        (whole_map.whole_map, _use_whole_map),
        (toeplitz.toeplitz, _use_toeplitz),
        (winograd.winograd, _use_winograd),
        (partial(strided.strided, convolve=_in_one_group), _use_strided),
        (im2col.im2col, _use_im2col),
        (toeplitz.toeplitz, _use_toeplitz_for_images),
        (kernel_gradient.conv_with_kernel_gradient, _use_kernel_gradient),
        (partial(volumes.volumes, convolve=_in_one_group), _use_volumes),
    ),
    "conv_local": (
        (toeplitz.local_toeplitz, _use_local_toeplitz),
        (partial(strided.strided, convolve=toeplitz.local_toeplitz), _use_local_strided),
    ),
    "max_pool": ((pool.max_pool, _use_max_pool),),
    "dense": ((matmul.matmul, _use_matmul),),
}
"""For each operation, implementations for a CPU, each with its condition; the first match is used.

To remove `cnn/ops/cpu`, delete the folder, its import above, and its entries in both tables.
"""


GPU_TABLE: dict[str, Sequence[tuple[Op, Callable[..., bool]]]] = {
    "conv": ((toeplitz.toeplitz, _use_gpu_toeplitz),),
    "max_pool": ((gpu_pool.max_pool, _use_gpu_max_pool),),
}
"""The same for an NVIDIA GPU, in bfloat16. Measured with LeNet-5 (`docs/performance.md`)."""


def choose(operation: str, *arrays: Array, platform: str = "cpu", **spec: WindowSpec) -> Op | None:
    """Return the implementation of `operation` for a platform, "cpu" or "cuda"; None if none is.

    A CPU has them for float32 and float64 only: `lax` rounds sums of bfloat16 differently there. On
    a GPU only bfloat16 was measured. The definition also computes empty arrays, and those with a
    symbolic size (`jax.export`).
    """
    table, types = {
        "cpu": (TABLE, (jnp.float32, jnp.float64)),
        "cuda": (GPU_TABLE, (jnp.bfloat16,)),
    }[platform]
    sizes = [n for array in arrays for n in array.shape]
    known = all(isinstance(n, int) and n > 0 for n in sizes)
    if known and arrays[0].dtype in types:
        for implementation, applies in table.get(operation, ()):
            if applies(*arrays, **spec):
                return partial(implementation, **spec)
    return None


_selected = jax.make_user_context(default_value=None)  # part of the key of a compiled function


def use(implementation: Literal["fastest", "reference"]) -> AbstractContextManager[None]:
    """Return a context that selects the implementations, whatever the environment says."""
    return _selected(_checked("implementation", implementation))


def selected() -> str:
    """Return which implementations are selected here: "fastest" or "reference"."""
    environment = os.environ.get("CNN_IMPLEMENTATION", "fastest")
    return _selected.value or _checked("CNN_IMPLEMENTATION", environment)


def compute(operation: str, definition: Op, *arrays: Array, **spec: WindowSpec) -> Array:
    """Apply the platform's implementation of `operation`, or the `definition` if it has none."""
    if selected() == "reference":
        return definition(*arrays)
    chosen = {name: choose(operation, *arrays, platform=name, **spec) for name in ("cpu", "cuda")}
    faster = {name: op for name, op in chosen.items() if op is not None}
    if not faster:
        return definition(*arrays)
    return lax.platform_dependent(*arrays, **faster, default=definition)


def _checked(name: str, value: str) -> str:
    if value not in ("fastest", "reference"):
        raise InputError(f"{name} must be 'fastest' or 'reference', got {value!r}")
    return value
