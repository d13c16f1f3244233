"""Weights moved to a model with less bias, with the function unchanged, and back."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn
from flax.traverse_util import flatten_dict, unflatten_dict
from jaxtyping import Array

from cnn.ablations.ablated import Ablated, is_explicit
from cnn.ablations.call import Call
from cnn.ablations.change import change_all
from cnn.ablations.kernels import Transfer, find_transfer
from cnn.ablations.plan import Plan
from cnn.ablations.rewrite import convert
from cnn.ablations.tied import average, check_nested, expand, untie
from cnn.errors import InputError, LayerError
from cnn.geometry import trace
from cnn.layers import BatchNormGroup, Conv, DenseSpatial, PositionalAttention
from cnn.layers.tree import join_path, leaf_layers

Variables = dict[str, Any]
Shape = tuple[int, ...]


def lift(
    variables: Variables, source: nn.Module, target: nn.Module, input_shape: Sequence[int]
) -> Variables:
    """Return variables with which `target` computes what `source` computes with `variables`.

    `target` has less bias, as `desymmetrize`, `tile`, `unshare`, `localize` and `densify` make it:
    each layer is of the same or a later type in p4m → p4 → conv → tiled → local → dense, a period
    is a multiple of the one before, and a radius covers the window. What does not belong to a
    changed layer is kept. From a convolution to attention (`attend`) the outputs are equal within
    a tolerance, and the weights that only attention has start as in `init`.
    """
    return _transfer(variables, source, target, tuple(input_shape), up=True)


def project(
    variables: Variables, source: nn.Module, target: nn.Module, input_shape: Sequence[int]
) -> Variables:
    """Return the variables of `target` whose lift to `source` is nearest to `variables`.

    The inverse of `lift`, with `target` the model with more bias; the distance is that of the
    weights, in least squares. `project` of a lift returns what was lifted, except for weights that
    see only padding: these are lost in a dense layer and come back as zeros.
    """
    return _transfer(variables, source, target, tuple(input_shape), up=False)


def _transfer(
    variables: Variables, source: nn.Module, target: nn.Module, input_shape: Shape, up: bool
) -> Variables:
    if is_explicit(source) and is_explicit(target):
        layers = [*leaf_layers(source).values(), *leaf_layers(target).values()]
        statistics = any(isinstance(layer, BatchNormGroup) for layer in layers)
        moved = variables if statistics else {"params": variables["params"]}
        return {**variables, **_transfer_layers(moved, source, target, input_shape, up)}
    module, other = (m.module if isinstance(m, Ablated) else m for m in (source, target))
    if module != other:
        raise InputError(
            "the models must be ablations of the same module, got those of "
            f"{type(module).__name__} and {type(other).__name__} with other fields"
        )
    call = Call(module.clone(name=None), (jnp.zeros((1, *input_shape)),), {}, {})
    before, after = (
        call.training_plan(change_all(model.changes if isinstance(model, Ablated) else ()))
        for model in (source, target)
    )
    leaves = before.structure.flatten_up_to({**call.init_shapes(), **variables})
    result = before.structure.unflatten(transfer_sites(leaves, before, after, up))
    return {collection: result[collection] for collection in variables}


@partial(jax.jit, static_argnames=("source", "target", "input_shape", "up"))
def _transfer_layers(
    weights: Variables, source: nn.Module, target: nn.Module, input_shape: Shape, up: bool
) -> Variables:
    """Transfer the variables of a model that consists of `cnn.layers`."""
    before, after = leaf_layers(source), leaf_layers(target)
    if before.keys() != after.keys():
        odd = min(before.keys() ^ after.keys())
        raise InputError(
            f"the models must have the same layers, but only one of them has {odd}: "
            "they may differ by symmetrize, tile, unshare, localize and densify alone"
        )
    traces = trace(source if up else target, input_shape)
    values = flatten_dict(weights, sep="/")
    owners = {path: path.partition("/")[2].rpartition("/") for path in values}
    for name, layer in before.items():
        if layer == after[name]:
            continue
        move = _find_move(name, layer, after[name], traces[name].input, up)
        for path in [path for path, (owner, _, _) in owners.items() if owner == name]:
            values[path] = move(owners[path][2], values[path])
        if isinstance(after[name], PositionalAttention):
            x = jnp.zeros((1, *traces[name].input))
            made = after[name].clone(name=None).init(jax.random.key(0), x)["params"]
            values = {join_path("params", join_path(name, k)): v for k, v in made.items()} | values
    return unflatten_dict(values, sep="/")


def _find_move(
    name: str, source: nn.Module, target: nn.Module, size: Shape, up: bool
) -> Callable[[str, Array], Array]:
    """Return the function from the name and value of a weight to its value in the other layer.

    A layer with tied weights goes through the one that has copies of them.
    """
    try:
        check_nested(*((source, target) if up else (target, source)))
    except InputError as error:
        raise LayerError(name, f"cannot be lifted: {error}") from None
    before, after = untie(source), untie(target)
    if isinstance(target, PositionalAttention):
        after = convert(target, Conv)  # with the same kernel
    transfer = None if before == after else _find_transfer(name, before, after, size, up)

    def move(part: str, w: Array) -> Array:
        w = expand(source, part, w)
        if transfer is not None:
            w = transfer.kernel(w) if part == "kernel" else transfer.bias(w)
        return average(target, part, w)

    return move


def transfer_sites(leaves: Sequence[Any], before: Plan, after: Plan, up: bool) -> list[Any]:
    """Return the parameters of the plan `after` from those of `before`, of the same function."""
    leaves = list(leaves)
    for name, site in before.sites.items():
        if not (name in before.changed or name in after.changed):
            continue
        old, new = before.weights(name), after.weights(name)
        if old.layer == new.layer:
            continue
        move = _find_transfer(name, old.layer, new.layer, site.shape, up)
        if isinstance(move.free, DenseSpatial):
            params = old._replace(stacked=False).unpack(leaves)
            params["kernel"] = move.kernel(params["kernel"])
            if "bias" in params:
                params["bias"] = move.bias(params["bias"])
            moved = new._replace(stacked=False).pack(params, before.leaves)
        else:
            given = [leaf for leaf in site.weights if isinstance(leaves[leaf], Array)]
            moved = {leaf: move.positions(leaves[leaf]) for leaf in given}
            if site.bias is not None:
                moved[site.bias] = move.bias(leaves[site.bias])
        for leaf, value in moved.items():
            leaves[leaf] = value
    return leaves


def _find_transfer(
    name: str, source: nn.Module, target: nn.Module, size: Shape, up: bool
) -> Transfer:
    try:
        return find_transfer(source, target, size, up)
    except InputError as error:
        raise LayerError(name, f"cannot be lifted: {error}") from None
