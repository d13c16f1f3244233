"""Choose the implementation of an operation by platform, shape and dtype.

Each operation has a definition in `lax`, which is correct on every platform. On a CPU, `TABLE`
replaces it for shapes where another implementation, from `cnn.ops.cpu`, was measured to be faster;
on an NVIDIA GPU, `GPU_TABLE` does in bfloat16. A TPU always runs the definition. For convolutions
in one group a CPU has several, of which `cnn.ops.cpu.one_group` takes that of the least estimated
cost.

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
from cnn.ops.bins import Bins
from cnn.ops.cpu import (
    adaptive,
    argmax,
    depthwise,
    grouped,
    matmul,
    one_group,
    pool,
    strided,
    toeplitz,
)
from cnn.ops.cpu.cost import MAX_TAPS, constants
from cnn.ops.gpu import pool as gpu_pool
from cnn.ops.lax_conv import lax_conv
from cnn.ops.window import WindowSpec

Op = Callable[..., Array]
MAX_DEPTHWISE = 64
"""The largest window for `depthwise`, which takes three slices for each tap."""


# The conditions of the table. Each docstring says when, and what the implementation computes.


def _use_depthwise(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """One filter for each of several channels: shifted products."""
    depthwise = kernel.shape[-2] == 1 < x.shape[-1] == kernel.shape[-1]
    return depthwise and math.prod(spec.window) <= MAX_DEPTHWISE


def _use_grouped(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Several groups: convolutions of one group. The definition's gradients are very slow."""
    return not _one_group(x, kernel) and math.prod(spec.window) <= MAX_TAPS


def _use_one_group(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """One group: the way that is estimated to cost least (`cnn.ops.cpu.cost`)."""
    return _one_group(x, kernel) and one_group.fits(x.shape, kernel.shape, spec)


def _use_local_toeplitz(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """Few channels, with a kernel for every position."""
    few = max(kernel.shape[-2:]) <= 16 and math.prod(spec.window) <= toeplitz.MAX_TAPS
    return _one_group(x, kernel) and _unit_steps(spec) and few


def _use_local_strided(x: Array, kernel: Array, spec: WindowSpec) -> bool:
    """A large window, and few channels also in blocks of positions."""
    c_in, c_out = kernel.shape[-2:]
    few = max(c_in * math.prod(spec.strides), c_out) <= 16
    large = 32 < math.prod(spec.window) <= toeplitz.MAX_TAPS
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
    """Return whether there are blocks of positions, with few taps beside the window."""
    covered = math.prod(strided.blocks_of(spec)) * math.prod(spec.strides)
    few_beside = 2 * covered <= 3 * math.prod(spec.window)
    few_positions = 1 < max(spec.strides) <= strided.MAX_STRIDE
    return few_positions and set(spec.dilation) == {1} and few_beside


def _unit_steps(spec: WindowSpec) -> bool:
    return set(spec.strides + spec.dilation) == {1}


def in_one_group(x: Array, kernel: Array, spec: WindowSpec) -> Array:
    """Convolve in the fastest way, or by the definition if none fits."""
    convolve = choose("conv", x, kernel, spec=spec) or lax_conv(spec)
    return convolve(x, kernel)


TABLE: dict[str, Sequence[tuple[Op, Callable[..., bool]]]] = {
    "conv": (
        (depthwise.depthwise, _use_depthwise),
        (partial(grouped.grouped, convolve=in_one_group), _use_grouped),
        (one_group.convolve, _use_one_group),
    ),
    "conv_local": (
        (toeplitz.local_toeplitz, _use_local_toeplitz),
        (partial(strided.strided, convolve=toeplitz.local_toeplitz), _use_local_strided),
    ),
    "max_pool": ((pool.max_pool, _use_max_pool),),
    "argmax": ((argmax.argmax, argmax.fits),),
    "adaptive_max_pool": ((adaptive.largest, adaptive.fits),),
    "adaptive_avg_pool": ((adaptive.mean, adaptive.fits),),
    "dense": ((matmul.matmul, _use_matmul),),
}
"""For each operation, implementations for a CPU, each with its condition; the first match is used.

To remove `cnn/ops/cpu`, delete the folder, its imports above, and what uses them: conditions,
entries of both tables, and the constants in `described`.
"""


GPU_TABLE: dict[str, Sequence[tuple[Op, Callable[..., bool]]]] = {
    "conv": ((toeplitz.toeplitz, _use_gpu_toeplitz),),
    "max_pool": ((gpu_pool.max_pool, _use_gpu_max_pool),),
}
"""The same for an NVIDIA GPU, in bfloat16. Measured with LeNet-5 (`docs/performance.md`)."""


def choose(
    operation: str, *arrays: Array, platform: str = "cpu", **spec: WindowSpec | Bins | int
) -> Op | None:
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


def described() -> str:
    """Return which implementations are selected, with the constants of `CNN_COSTS` if it is set."""
    if selected() == "reference" or not os.environ.get("CNN_COSTS"):
        return selected()
    return f"{selected()}, {constants()}"


def compute(
    operation: str, definition: Op, *arrays: Array, **spec: WindowSpec | Bins | int
) -> Array:
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
