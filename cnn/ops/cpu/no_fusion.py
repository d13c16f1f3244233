"""A computation that XLA does not melt into what consumes it.

On a CPU, XLA fuses a cheap computation into each of its consumers, which then compute it once for
every element that they read; `lax.optimization_barrier` is taken out before that and holds nothing
apart. A call that may not be inlined does.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TypeVar

import jax
from jax.experimental.xla_metadata import set_xla_metadata
from jaxtyping import Array

Arrays = TypeVar("Arrays", Array, tuple[Array, Array])


def apart(f: Callable[..., Arrays]) -> Callable[..., Arrays]:
    """Return `f`, computed from arrays in memory into one or two in memory.

    A gradient keeps these arrays, and nothing that `f` makes of them on the way. Every jitted
    function inside is computed so, too, many of those of `jax.numpy` among them: `f` uses `lax`.
    """
    called = jax.jit(jax.checkpoint(f, prevent_cse=False))

    @functools.wraps(f)
    def call(*arrays: Array) -> Arrays:
        with set_xla_metadata(inlineable="false"):
            return called(*arrays)

    return call
