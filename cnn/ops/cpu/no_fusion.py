"""Keep XLA from fusing a function into its consumers.

On a CPU, XLA fuses a cheap computation into each of its consumers, which then repeat it for every
element that they read. XLA removes `lax.optimization_barrier` before it fuses. A call that must not
be inlined prevents the fusion.
"""

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array

Arrays = TypeVar("Arrays", Array, tuple[Array, Array])


def no_fusion(f: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """Return `f` as a call that XLA does not inline: its inputs and outputs are in memory.

    A gradient stores the inputs of `f` and no intermediate value. Jitted functions inside `f` are
    not inlined either, among them many of `jax.numpy`, so `f` should use `lax`.
    """
    jitted = jax.jit(jax.checkpoint(f, prevent_cse=False))

    @functools.wraps(f)
    def wrapped(*arrays: Array) -> Arrays:
        with set_xla_metadata(inlineable="false"):
            return jitted(*arrays)

    return wrapped
