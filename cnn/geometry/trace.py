"""One abstract evaluation of a model, and what every module saw in it."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

Shape = tuple[int, ...]


class Seen(NamedTuple):
    """What passed through a module: shapes without the batch, and shapes of its parameters."""

    input: Shape
    output: Shape
    memory: int
    params: dict[tuple[str, ...], Shape]


def trace(model: nn.Module, input_shape: Shape) -> dict[str, Seen]:
    """Return what every module in `model` sees, by name; abstract evaluation, nothing computed.

    Raises `LayerError` where the model does not fit the input.
    """
    seen: dict[str, Seen] = {}

    def note(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        if context.method_name == "__call__":
            module = context.module
            params = flatten_dict(module.variables.get("params", {}))
            memory = math.prod(y.shape[1:]) * y.dtype.itemsize
            shapes = {path: value.shape for path, value in params.items()}
            seen["/".join(module.path)] = Seen(args[0].shape[1:], y.shape[1:], memory, shapes)
        return y

    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    with nn.intercept_methods(note):  # a function of its own, which no earlier trace stands for
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    return seen
