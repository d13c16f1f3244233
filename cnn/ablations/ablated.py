"""Any Linen module with some of its convolutions and poolings exchanged."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, ParamSpec

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Key

from cnn import layers
from cnn.ablations.initial import initial
from cnn.ablations.plan import Layers, Plan, make_plan, tracing
from cnn.ablations.rewrite import Where
from cnn.errors import unknown_name
from cnn.geometry.jaxpr import leaf_names
from cnn.layers.serialization import serializable
from cnn.layers.tree import children

Variables = Mapping[str, Any]
P = ParamSpec("P")
ALL = nn.DenyList("params")
"""The collections that a call may change."""


_ABLATIONS: dict[str, Callable[..., Any]] = {}


@serializable
@dataclasses.dataclass(frozen=True)
class Change:
    """An ablation by its name, with its arguments, as a value."""

    ablation: str
    arguments: tuple[tuple[str, Any], ...] = ()
    where: Where = None

    def __post_init__(self) -> None:
        if self.ablation not in _ABLATIONS:
            raise unknown_name("ablation", self.ablation, _ABLATIONS)

    def __call__(self, layers: Layers) -> Layers:
        """Return the layers, by name, with those changed that `where` selects."""
        function = _ABLATIONS[self.ablation]
        changed: Layers = function(layers, **dict(self.arguments), where=self.where)
        return changed

    def __repr__(self) -> str:
        where = () if self.where is None else (("where", self.where),)
        arguments = ", ".join(f"{name}={value!r}" for name, value in (*self.arguments, *where))
        return f"{self.ablation}({arguments})"


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
        if train is not None and takes_train(self.module):
            kwargs["train"] = train
        scope: Any = self.scope
        rngs = {name: rng.as_jax_rng() for name, rng in scope.rngs.items()}
        call = Call(self.module.clone(parent=None, name=None), args, kwargs, rngs)
        if self.is_initializing():
            variables = initial(call.training_plan(self.changes), call.init, rngs["params"])
            self._put(variables)
            y, _ = call.plan(self.changes, call.init_shapes(), ALL).apply(variables, *call.data)
            return y
        shapes = {k: v for k, v in call.init_shapes().items() if k in self.variables}
        plan = call.plan(self.changes, {**self.variables, **shapes}, scope.mutable or [])
        y, updated = plan.apply(dict(self.variables), *call.data)
        self._put(updated)
        return y

    def _put(self, variables: Variables) -> None:
        for collection, values in variables.items():
            for name, value in values.items():
                self.put_variable(collection, name, value)


class Call:
    """A module and the arguments of one call: arrays are data, everything else is constant."""

    def __init__(
        self, module: nn.Module, args: Sequence[Any], kwargs: dict[str, Any], rngs: dict[str, Array]
    ) -> None:
        leaves, structure = jax.tree.flatten((args, kwargs))
        self._structure: Any = structure
        self._leaves = [None if isinstance(leaf, Array | np.ndarray) else leaf for leaf in leaves]
        arrays: list[Any] = [leaf for leaf in leaves if isinstance(leaf, Array | np.ndarray)]
        self.module = module
        self.data = (arrays, rngs)

    def init(self, key: Key[Array, ""]) -> Variables:
        """Return variables of the module."""
        arrays, rngs = self.data
        args, kwargs = self._arguments(arrays)
        variables: Variables = self.module.init({**rngs, "params": key}, *args, **kwargs)
        return variables

    def init_shapes(self) -> Variables:
        """Return the shapes of the module's variables."""
        with tracing():
            shapes: Variables = jax.eval_shape(self.init, jax.random.key(0))
        return shapes

    def training_plan(self, changes: Sequence[Change]) -> Plan:
        """Return the plan for training, in which all statistics are updated."""
        arrays, rngs = self.data
        args, kwargs = self._arguments(arrays)
        if takes_train(self.module):
            kwargs = {**kwargs, "train": True}
        rngs = {"params": jax.random.key(0), **rngs}
        training = Call(self.module, args, kwargs, rngs)
        return training.plan(changes, self.init_shapes(), ALL)

    def plan(self, changes: Sequence[Change], variables: Variables, mutable: Any) -> Plan:
        """Return the plan of the changed module, whose result is the output and the updates."""
        paths = leaf_names(variables)

        def apply(variables: Variables, arrays: list[Array], rngs: dict[str, Array]) -> Any:
            args, kwargs = self._arguments(arrays)
            return self.module.apply(variables, *args, **kwargs, rngs=rngs, mutable=mutable)

        def updates(result: Any) -> dict[int, int]:
            """The result is the output, 0, and the new values, 1."""
            new = [path.removeprefix("1/") for path in leaf_names(result)]
            return {i: paths.index(path) for i, path in enumerate(new) if path in paths}

        names = [path.partition("/")[2] for path in paths]
        return make_plan(apply, variables, self.data, names, change_all(changes), updates)

    def _arguments(self, arrays: Sequence[Array]) -> tuple[Sequence[Any], dict[str, Any]]:
        rest = iter(arrays)
        leaves = [next(rest) if leaf is None else leaf for leaf in self._leaves]
        arguments: tuple[Sequence[Any], dict[str, Any]] = self._structure.unflatten(leaves)
        return arguments


def takes_train(module: nn.Module) -> bool:
    """Whether a module's call has an argument `train`."""
    return "train" in inspect.signature(type(module).__call__).parameters


def change_all(changes: Sequence[Change]) -> Callable[[Layers], Layers]:
    """Return the composition of changes, the first one first."""
    return lambda layers: functools.reduce(lambda layers, change: change(layers), changes, layers)


def ablation(function: Callable[P, nn.Module]) -> Callable[P, nn.Module]:
    """Let an ablation of layers of `cnn.layers` apply to any module: it returns an `Ablated`.

    A model that consists of `cnn.layers` alone is changed by `function` itself.
    """

    _ABLATIONS[function.__name__] = function

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
