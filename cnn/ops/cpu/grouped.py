"""Convolution in groups of channels as convolutions of one group, side by side.

The channels are cut into blocks of whole groups. The kernel of a block with several groups is block
diagonal: zero from the inputs of a group to the outputs of another one.
"""

import math
from collections.abc import Callable

import jax.numpy as jnp
from jaxtyping import Array, Float

from cnn.ops.window import WindowSpec

MAX_SLICES = 512
"""The most taps of all convolutions of one group together, which make the program long."""
MAX_BLOCKS = 32


def grouped(
    x: Float[Array, "batch *spatial c_in"],
    kernel: Float[Array, "*window c_in_per_group c_out"],
    spec: WindowSpec,
    convolve: Callable[[Array, Array, WindowSpec], Array],
) -> Float[Array, "batch *out c_out"]:
    """Convolve in groups; `convolve` does in one group."""
    groups = x.shape[-1] // kernel.shape[-2]
    most = min(MAX_BLOCKS, max(1, MAX_SLICES // math.prod(spec.window)))
    blocks = max(n for n in range(1, most + 1) if groups % n == 0)
    parts = zip(jnp.split(x, blocks, -1), jnp.split(kernel, blocks, -1), strict=True)
    size = groups // blocks
    return jnp.concatenate([convolve(a, _diagonal(b, size), spec) for a, b in parts], -1)


def _diagonal(
    kernel: Float[Array, "*window c_in_per_group c_out"], groups: int
) -> Float[Array, "*window c_in c_out"]:
    if groups == 1:
        return kernel
    *window, c_in, c_out = kernel.shape
    apart = kernel.reshape(*window, 1, c_in, groups, c_out // groups)
    identity = jnp.eye(groups, dtype=kernel.dtype).reshape(
        *(1,) * len(window), groups, 1, groups, 1
    )
    return (apart * identity).reshape(*window, groups * c_in, c_out)
