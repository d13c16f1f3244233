"""A function of parameters and data, with some of its convolutions and poolings exchanged."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import unflatten_dict
from jax.extend.core import ClosedJaxpr, JaxprEqn
from jaxtyping import Array, PyTree

from cnn.ablations.equations import convolution, run_convolution, run_pool
from cnn.ablations.interpret import Operand, Stacked, run, unstack
from cnn.ablations.sites import Site, find_sites
from cnn.ablations.values import Key
from cnn.ablations.weights import Weights, find_weights
from cnn.errors import InputError, LayerError
from cnn.geometry.jaxpr import aval, called
from cnn.ops.implementations import use

Layers = dict[str, nn.Module]
ChangeLayers = Callable[[Layers], Layers]
"""From the layers of all sites, by name, to those that run in their places."""


class Plan(NamedTuple):
    """A traced function, its sites, and the weights of those that changed."""

    program: ClosedJaxpr
    structure: Any
    """Of the parameters."""
    result: Any
    """The structure of the result."""
    leaves: list[jax.ShapeDtypeStruct]
    """The original parameters."""
    sites: dict[str, Site]
    changed: dict[str, Weights]

    @property
    def layers(self) -> Layers:
        """The original layers, by the names of their sites."""
        return {name: site.layer for name, site in self.sites.items()}

    def weights(self, name: str) -> Weights:
        """Return the weights of a site, changed or not."""
        site = self.sites[name]
        return self.changed.get(name) or find_weights(site, site.layer)

    def shapes(self) -> list[PyTree]:
        """Return the shapes of all parameters, in the order of the original ones."""
        new: list[PyTree] = list(self.leaves)
        for weights in self.changed.values():
            for leaf in weights.site.weights if weights.stacked else ():
                old = self.leaves[leaf]
                new[leaf] = jax.ShapeDtypeStruct((*weights.positions, *old.shape), old.dtype)
            packed = jax.eval_shape(partial(weights.pack, leaves=self.leaves), weights.params)
            for leaf, value in packed.items():
                dtype = self.leaves[leaf].dtype
                new[leaf] = jax.tree.map(lambda s, d=dtype: jax.ShapeDtypeStruct(s.shape, d), value)
        return new

    def apply(self, params: PyTree, *data: PyTree) -> PyTree:
        """Run the function with `params`, whose changed parts have the `shapes` of the new ones."""
        leaves = self.structure.flatten_up_to(params)
        operands: list[Operand] = list(leaves)
        instead: dict[Key, Callable[..., Operand]] = {}
        for weights in self.changed.values():
            operands = _operands(weights, self.leaves, operands)
            instead |= _replacements(weights, self.program, leaves)
        results = run(self.program, [*operands, *jax.tree.leaves(data)], instead)
        return jax.tree.unflatten(self.result, map(unstack, results))


def make_plan(
    function: Callable[..., PyTree],
    params: PyTree,
    data: Sequence[PyTree],
    names: Sequence[str],
    change: ChangeLayers,
    updates: Callable[[PyTree], Mapping[int, int]] = lambda result: {},
) -> Plan:
    """Trace `function(params, *data)` and change its layers.

    Args:
      names: The paths of the parameters.
      updates: From the result's shapes to the parameter that each result is new for.
    """
    with tracing(), use("reference"):
        program, result = jax.make_jaxpr(function, return_shape=True)(params, *data)
    leaves, structure = jax.tree.flatten(params)
    sites = {site.name: site for site in find_sites(program, names, updates(result))}
    changed: dict[str, Weights] = {}
    for name, layer in change({name: site.layer for name, site in sites.items()}).items():
        if layer != sites[name].layer:
            try:
                changed[name] = find_weights(sites[name], layer)
            except InputError as error:
                raise LayerError(name, str(error)) from None
    result = jax.tree.structure(result)
    return Plan(program, structure, result, leaves, sites, changed)


def typed_like(shapes: PyTree, params: PyTree) -> PyTree:
    """Return the shapes of the original parameters with the types that those in use have."""

    def typed(shape: jax.ShapeDtypeStruct, value: PyTree) -> jax.ShapeDtypeStruct:
        return jax.ShapeDtypeStruct(shape.shape, jax.tree.leaves(value)[0].dtype)

    return jax.tree.map(typed, shapes, params)


@contextmanager
def tracing() -> Iterator[None]:
    """Raise `InputError` for a network that cannot be traced."""
    try:
        yield
    except (jax.errors.JAXTypeError, jax.errors.JAXIndexError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"the network's shapes or control flow depend on data: {reason}") from None


def _operands(
    weights: Weights, old: list[jax.ShapeDtypeStruct], operands: list[Operand]
) -> list[Operand]:
    """Return the operands of the program, with those of a changed layer in another form."""
    operands = list(operands)
    for leaf in weights.replaced:
        operands[leaf] = None
    for leaf in weights.site.weights if weights.stacked and weights.positions else ():
        stack = jnp.reshape(operands[leaf], (-1, *old[leaf].shape))
        operands[leaf] = Stacked(stack, weights.positions)
    return operands


def _replacements(
    weights: Weights, program: ClosedJaxpr, leaves: Sequence[PyTree]
) -> dict[Key, Callable[..., Operand]]:
    """Return the functions that run in the place of equations."""
    site, instead = weights.site, dict[Key, Callable[..., Operand]]()
    for key in site.keys:
        eqn = _equation(program, key)
        if eqn.primitive.name == "conv_general_dilated":
            instead[key] = partial(_convolve, weights, eqn, weights.unpack(leaves))
        else:
            instead[key] = partial(_pool, weights, eqn)
    return instead | {key: _other for key in site.additions}


def _convolve(
    weights: Weights, eqn: JaxprEqn, params: dict[str, Array], x: Array, kernel: Operand
) -> Array:
    if kernel is not None:
        axes = convolution(eqn).kernel_axes
        value = unstack(kernel)
        count = value.ndim - len(axes)
        order = (*range(count), *(count + axis for axis in axes))
        params = params | {"kernel": value.transpose(order)}
    dtype = aval(eqn.invars[1]).dtype
    params = {path: value.astype(dtype) for path, value in params.items()}
    return run_convolution(eqn, weights.layer, unflatten_dict(params, sep="/"), x)


def _pool(weights: Weights, eqn: JaxprEqn, x: Array) -> Array:
    y = run_pool(eqn, weights.layer, x)
    divisor = weights.site.divisor
    return y if divisor is None else y * divisor.astype(y.dtype)


def _other(first: Operand, second: Operand) -> Operand:
    """Return a sum whose other term the layer before has added."""
    return second if first is None else first


def _equation(program: ClosedJaxpr, key: Key) -> JaxprEqn:
    number, *rest = key
    eqn = program.jaxpr.eqns[number]
    inner = called(eqn) if rest else None
    return eqn if inner is None else _equation(inner, tuple(rest))
