"""Ablations of networks that are functions: NNX, Equinox, Haiku, or plain JAX."""

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
from flax import linen as nn
from jaxtyping import Array, Key, PyTree

from cnn.ablations.ablated import Ablated
from cnn.ablations.change import Change, change_all
from cnn.ablations.initial import initial
from cnn.ablations.lifts import transfer_sites
from cnn.ablations.plan import Plan, make_plan, typed_like
from cnn.errors import InputError
from cnn.geometry.jaxpr import leaf_names


class AblatedFunction(NamedTuple):
    """A changed network as functions."""

    init: Callable[[Key[Array, ""], PyTree], PyTree]
    """`init(key, x)` draws its parameters, by the initializers of the original."""
    apply: Callable[[PyTree, PyTree], PyTree]
    """`apply(params, x)` computes it."""
    lift: Callable[[PyTree, PyTree], PyTree]
    """`lift(params, x)` returns the parameters with which it computes what the original does."""
    project: Callable[[PyTree, PyTree], PyTree]
    """`project(params, x)` returns the original's parameters whose lift is nearest to `params`."""


class _Function(nn.Module):
    """Stands for the function while ablations are applied."""


def ablate(
    function: Callable[[PyTree, PyTree], PyTree],
    init: Callable[[Key[Array, ""]], PyTree],
    change: Callable[[nn.Module], nn.Module],
) -> AblatedFunction:
    """Return `function(params, x)` with some of its convolutions and poolings exchanged.

    With `local = ablate(function, make, unshare)`, `local.apply(local.lift(params, x), x)` is
    `function(params, x)`. The parameters keep their tree.

    Args:
      function: The network. `params` and `x` are trees of arrays.
      init: Draws its parameters from a random key.
      change: An ablation, or a function that applies several, such as `partial(tile, period=2)`.
        `where` chooses layers by the path of their parameters, "layers/0".
    """
    changed = change(_Function())
    if not (isinstance(changed, Ablated) and isinstance(changed.module, _Function)):
        raise InputError("change must apply ablations of layers, such as unshare, and nothing else")
    changes = changed.changes
    shapes = jax.eval_shape(init, jax.random.key(0))
    names = leaf_names(shapes)

    def plan(x: PyTree, changes: tuple[Change, ...], shapes: PyTree = shapes) -> Plan:
        return make_plan(function, shapes, (x,), names, change_all(changes))

    def draw(key: Key[Array, ""], x: PyTree) -> PyTree:
        return initial(plan(x, changes), init, key)

    def transfer(params: PyTree, x: PyTree, up: bool) -> PyTree:
        before, after = (plan(x, these) for these in (((), changes) if up else (changes, ())))
        leaves = transfer_sites(before.structure.flatten_up_to(params), before, after, up)
        return before.structure.unflatten(leaves)

    def apply(params: PyTree, x: PyTree) -> PyTree:
        return plan(x, changes, typed_like(shapes, params)).apply(params, x)

    return AblatedFunction(draw, apply, partial(transfer, up=True), partial(transfer, up=False))
