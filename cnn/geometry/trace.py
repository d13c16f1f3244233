"""Shapes of all layers of a model, from one abstract evaluation."""

from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

import jax
import jax.numpy as jnp
from flax import linen as nn
from jaxtyping import PyTree

from cnn.layers.combinators import train_argument

Shape = tuple[int, ...]
T = TypeVar("T")


class LayerTrace(NamedTuple):
    """Shapes of a layer's input and output, without the batch."""

    input: Shape
    output: Shape


def abstract_variables(model: nn.Module, input_shape: Shape) -> PyTree:
    """Return the shapes and dtypes of a module's variables; nothing is computed."""
    x = jax.ShapeDtypeStruct((1, *input_shape), jnp.float32)
    return jax.eval_shape(
        lambda x: model.init(jax.random.key(0), x, **train_argument(model, False)), x
    )


def module_types(run: Callable[[], T]) -> tuple[dict[str, str], T]:
    """Return the type of every module that `run` calls, by its path, and what `run` returns.

    The name stack of the equations that `run` traces gets the `scope_name` of each module.
    """
    types: dict[str, str] = {}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        path = "/".join(context.module.path)
        types[path] = type(context.module).__name__
        with jax.named_scope(scope_name(path)):
            return call(*args, **kwargs)

    with nn.intercept_methods(record):
        return types, run()


def scope_name(path: str) -> str:
    """Return the name of a module in a name stack, whose parts are separated by "/"."""
    return "@" + path.replace("/", ".")


def trace(model: nn.Module, input_shape: Shape) -> dict[str, LayerTrace]:
    """Return the shapes of every module from array to array, by its path among the parameters.

    In the order in which their calls end: a module comes after its parts. Nothing is computed.
    Raises `LayerError` where the model does not fit the input.
    """
    traces: dict[str, LayerTrace] = {}

    def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
        y = call(*args, **kwargs)
        if context.method_name == "__call__" and args and all(map(_is_array, (args[0], y))):
            traces["/".join(context.module.path)] = LayerTrace(args[0].shape[1:], y.shape[1:])
        return y

    with nn.intercept_methods(record):
        abstract_variables(model, input_shape)
    return traces


def _is_array(value: Any) -> bool:
    return isinstance(value, jax.Array)
