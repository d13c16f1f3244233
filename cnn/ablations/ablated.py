"""Any Linen module with some of its convolutions and poolings exchanged."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from typing import Any, ParamSpec

import jax.numpy as jnp
from flax import linen as nn

from cnn import layers
from cnn.ablations.call import ALL, Call, Variables
from cnn.ablations.change import ABLATIONS, Change, change_all
from cnn.ablations.initial import initial
from cnn.ablations.plan import typed_like
from cnn.layers.combinators import train_argument
from cnn.layers.serialization import serializable
from cnn.layers.tree import children, leaf_layers

P = ParamSpec("P")


@serializable
class Ablated(nn.Module):
    """A module with ablations of the convolutions and poolings that it computes.

    They are found in the computation itself, so the module may be written in any way. Its
    parameters keep their tree: a changed kernel is where the original one was.
    """

    module: nn.Module
    changes: tuple[Change, ...]

    def __post_init__(self) -> None:
        if self.module.parent is None:  # a copy, so that no other module shares its weights
            object.__setattr__(self, "module", self.module.clone())
        super().__post_init__()

    def __call__(self, *args: Any, train: bool | None = None, **kwargs: Any) -> Any:
        if train is not None:
            kwargs |= train_argument(self.module, train)
        scope: Any = self.scope
        rngs = {name: rng.as_jax_rng() for name, rng in scope.rngs.items()}
        call = Call(self.module.clone(parent=None, name=None), args, kwargs, rngs)
        change, shapes = change_all(self.changes), call.init_shapes()
        if self.is_initializing():
            variables = initial(call.training_plan(change), call.init, rngs["params"])
            self._put(variables)
            y, _ = call.plan(change, shapes, ALL).apply(variables, *call.data)
            return y
        variables = dict(self.variables)
        shapes = {k: typed_like(v, variables[k]) for k, v in shapes.items() if k in variables}
        capture = scope.is_mutable_collection("intermediates")
        plan = call.plan(change, variables | shapes, scope.mutable or [], capture)
        y, updated = plan.apply(variables, *call.data)
        self._put(updated)
        return y

    def _put(self, variables: Variables) -> None:
        for collection, values in variables.items():
            for name, value in values.items():
                self.put_variable(collection, name, value)


def list_layers(model: nn.Module, input_shape: Sequence[int]) -> dict[str, nn.Module]:
    """Return the layers that ablations find in a model, by the names that `where` takes.

    In a module that was made elsewhere, these are its convolutions and poolings.
    """
    if is_explicit(model):
        return leaf_layers(model)
    module, changes = (model.module, model.changes) if isinstance(model, Ablated) else (model, ())
    call = Call(module.clone(name=None), (jnp.zeros((1, *input_shape)),), {}, {})
    return change_all(changes)(call.training_plan(lambda layers: layers).layers)


def ablation(function: Callable[P, nn.Module]) -> Callable[P, nn.Module]:
    """Let an ablation of layers of `cnn.layers` apply to any module: it returns an `Ablated`.

    A model that consists of `cnn.layers` alone is changed by `function` itself.
    """

    ABLATIONS[function.__name__] = function

    @functools.wraps(function)
    def apply(*args: P.args, **kwargs: P.kwargs) -> nn.Module:
        arguments = inspect.signature(function).bind(*args, **kwargs).arguments
        model, where = arguments.pop("model"), arguments.pop("where", None)
        if isinstance(model, dict) or is_explicit(model):
            return function(*args, **kwargs)
        values = tuple((name, hashable(value)) for name, value in arguments.items())
        change = Change(function.__name__, values, where if callable(where) else hashable(where))
        if isinstance(model, Ablated):
            return model.clone(changes=(*model.changes, change))
        return Ablated(model, (change,))

    return apply


def is_explicit(model: nn.Module) -> bool:
    """Whether all layers of a model are those of `cnn.layers`."""
    kind = type(model)
    return getattr(layers, kind.__name__, None) is kind and all(
        is_explicit(child) for child in children(model).values()
    )


def hashable(value: Any) -> Any:
    """Return a value with tuples in the place of lists and other iterables."""
    if isinstance(value, Iterable) and not isinstance(value, str):
        return tuple(map(hashable, value))
    return value
