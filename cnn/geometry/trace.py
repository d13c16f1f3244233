"""Shapes of all layers of a model, from one abstract evaluation."""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict

Shape = tuple[int, ...]


class LayerTrace(NamedTuple):
    """Shapes of a layer's input and output, without the batch, and of its parameters."""

    input: Shape
    output: Shape
    memory: int
    """Bytes of the output for one example."""
    params: dict[tuple[str, ...], Shape]


def trace(model: nn.Module, input_shape: Shape) -> dict[str, LayerTrace]:
    """Return a trace of every module in `model`, by its path among the parameters.

    Nothing is computed. Raises `LayerError` where the model does not fit the input.
    """
    traces: dict[str, LayerTrace] = {}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        if context.method_name == "__call__":
            module = context.module
            params = flatten_dict(module.variables.get("params", {}))
            memory = math.prod(y.shape[1:]) * y.dtype.itemsize
            shapes = {path: value.shape for path, value in params.items()}
            path = "/".join(module.path)
            traces[path] = LayerTrace(args[0].shape[1:], y.shape[1:], memory, shapes)
        return y

    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    with nn.intercept_methods(record):
        # A new function object, so that JAX does not reuse an earlier trace without `record`.
        jax.eval_shape(lambda x: model.init(jax.random.key(0), x), x)
    return traces
