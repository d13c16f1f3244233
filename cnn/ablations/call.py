"""A call of a Linen module as a function of its variables and data."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import jax
import numpy as np
from flax import linen as nn
from jaxtyping import Array, Key

from cnn.ablations.plan import ChangeLayers, Layers, Plan, make_plan, tracing
from cnn.errors import LayerError
from cnn.geometry.jaxpr import leaf_names
from cnn.layers import BlurPool, ConvLocal, ConvTiled, DenseSpatial, SeparableConv
from cnn.layers.combinators import train_argument

Variables = Mapping[str, Any]
ALL = nn.DenyList("params")
"""The collections that a call may change."""
UNSEEN = (ConvTiled, ConvLocal, DenseSpatial, SeparableConv, BlurPool)
"""Layers that do not compute one convolution or pooling, so that no site is one of them."""


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

    def training_plan(self, change: ChangeLayers) -> Plan:
        """Return the plan for training, in which all statistics are updated."""
        arrays, rngs = self.data
        args, kwargs = self._arguments(arrays)
        kwargs = kwargs | train_argument(self.module, True)
        rngs = {"params": jax.random.key(0), **rngs}
        training = Call(self.module, args, kwargs, rngs)
        return training.plan(change, self.init_shapes(), ALL)

    def plan(
        self, change: ChangeLayers, variables: Variables, mutable: Any, capture: bool = False
    ) -> Plan:
        """Return the plan of the changed module, whose result is the output and the updates.

        With `capture` the outputs of all modules are among the updates.
        """
        paths = leaf_names(variables)

        unseen: Layers = {}

        def record(call: Callable[..., Any], args: Any, kwargs: Any, context: Any) -> Any:
            if isinstance(context.module, UNSEEN) and context.method_name == "__call__":
                unseen["/".join(context.module.path)] = context.module.clone(name=None)
            return call(*args, **kwargs)

        def apply(variables: Variables, arrays: list[Array], rngs: dict[str, Array]) -> Any:
            args, kwargs = self._arguments(arrays)
            options = {"rngs": rngs, "mutable": mutable, "capture_intermediates": capture}
            with nn.intercept_methods(record):
                return self.module.apply(variables, *args, **kwargs, **options)

        def updates(result: Any) -> dict[int, int]:
            """The result is the output, 0, and the new values, 1."""
            new = [path.removeprefix("1/") for path in leaf_names(result)]
            return {i: paths.index(path) for i, path in enumerate(new) if path in paths}

        names = [path.partition("/")[2] for path in paths]
        return make_plan(
            apply, variables, self.data, names, partial(_change_seen, change, unseen), updates
        )

    def _arguments(self, arrays: Sequence[Array]) -> tuple[Sequence[Any], dict[str, Any]]:
        rest = iter(arrays)
        leaves = [next(rest) if leaf is None else leaf for leaf in self._leaves]
        arguments: tuple[Sequence[Any], dict[str, Any]] = self._structure.unflatten(leaves)
        return arguments


def _change_seen(change: ChangeLayers, unseen: Layers, layers: Layers) -> Layers:
    """Change the layers of sites; raise `LayerError` where that would change an unseen one."""
    changed = change(layers | unseen)
    for name, layer in unseen.items():
        if changed[name] != layer:
            raise LayerError(
                name,
                f"{type(layer).__name__} cannot be changed inside a network made elsewhere: change "
                "it before, or leave it out by `where`",
            )
    return {name: changed[name] for name in layers if name not in unseen}
