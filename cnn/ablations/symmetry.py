"""Symmetry: kernels that rotations and reflections share, and kernels without it."""

from typing import Any

from flax import linen as nn

from cnn import ops
from cnn.ablations.ablated import is_explicit
from cnn.ablations.rewrite import Where, convert, require, rewrite
from cnn.ablations.tied import untie
from cnn.errors import InputError, LayerError
from cnn.layers import (
    BatchNorm,
    BatchNormGroup,
    Chain,
    Concat,
    Conv,
    ConvBase,
    ConvGroup,
    Dense,
    Flatten,
    GroupNorm,
    GroupPool,
    LocalResponseNorm,
    Maxout,
    Permute,
    Residual,
)
from cnn.layers.tree import join_path
from cnn.ops import Group


def symmetrize(model: nn.Module, group: Group, where: Where = None) -> nn.Module:
    """Share kernels over the transformations of `group`, too: convolutions become `ConvGroup`.

    The number of output channels stays: c channels become c / |G| features, each of them one
    channel for every transformation. So a layer has |G| times fewer weights, and as many
    multiplications. The first of the layers lifts, and a `BatchNorm` behind them becomes a
    `BatchNormGroup`. A `ConvGroup` gets the new group.

    The rest of the model stays, and its head need not be invariant: for that, `GroupPool(group)`
    and a global pooling come before it.

    Raises:
      InputError: If the model does not consist of `cnn.layers`.
      LayerError: If the channels or groups of a layer are no features, if a layer between symmetric
        ones breaks the symmetry, or if branches meet of which not all have it.
    """
    _check_explicit("symmetrize", model)

    def rule(layer: ConvBase) -> ConvBase:
        conv: Any = untie(layer) if isinstance(layer, ConvGroup) else layer
        require(conv, (Conv,), "only a Conv has one kernel for all positions; `share` it first")
        features, rest = divmod(conv.features, ops.group_order(group))
        if rest:
            raise InputError(
                f"features must be a multiple of {ops.group_order(group)}, the transformations of "
                f"{group!r}, got {conv.features}"
            )
        if features % conv.groups:
            raise InputError(
                f"groups must divide the {features} features that {conv.features} channels are "
                f"for {group!r}, got {conv.groups}: `group` by 1 first"
            )
        return convert(conv, ConvGroup, features=features, group=group)

    return _connect("", rewrite(model, ConvBase, rule, where), None)[0]


def desymmetrize(model: nn.Module, where: Where = None) -> nn.Module:
    """Give every output channel a kernel of its own: `ConvGroup` becomes `Conv`.

    `BatchNormGroup` becomes `BatchNorm`; `where` selects among both.
    """
    _check_explicit("desymmetrize", model)
    return rewrite(model, (ConvGroup, BatchNormGroup), untie, where)


def _check_explicit(name: str, model: nn.Module) -> None:
    if not is_explicit(model):
        raise InputError(
            f"{name} needs a model of cnn.layers alone, got {type(model).__name__}: whether other "
            "layers keep the symmetry is not known"
        )


def _connect(name: str, layer: nn.Module, symmetry: Group | None) -> tuple[nn.Module, Group | None]:
    """Return a layer as it is on an input with a symmetry, and the symmetry of its output."""
    match layer:
        case Chain():
            parts = []
            for i, part in enumerate(layer.layers):
                part, symmetry = _connect(join_path(name, f"layers_{i}"), part, symmetry)
                parts.append(part)
            return layer.clone(layers=tuple(parts)), symmetry
        case Residual():
            body, *ends = _connect(join_path(name, "body"), layer.body, symmetry)
            shortcut, end = layer.shortcut, symmetry
            if shortcut is not None:
                shortcut, end = _connect(join_path(name, "shortcut"), shortcut, symmetry)
            return layer.clone(body=body, shortcut=shortcut), _meet(name, [*ends, end])
        case Concat():
            made = [
                _connect(join_path(name, f"branches_{i}"), branch, symmetry)
                for i, branch in enumerate(layer.branches)
            ]
            branches = tuple(branch for branch, _ in made)
            return layer.clone(branches=branches), _meet(name, [end for _, end in made])
        case ConvGroup():
            if symmetry not in (None, layer.group) and (symmetry, layer.group) != ("p4m", "p4"):
                raise LayerError(
                    name, f"its input must have the symmetry {layer.group!r}, got {symmetry!r}"
                )
            return layer.clone(lifting=symmetry is None), layer.group
        case BatchNorm():
            if symmetry is None:
                return untie(layer), None
            return BatchNormGroup(layer.momentum, layer.epsilon, group=symmetry), symmetry
        case GroupNorm() | LocalResponseNorm() if symmetry is not None:
            kind = type(layer).__name__
            raise LayerError(
                name, f"{kind} breaks the symmetry {symmetry!r}: use BatchNorm, or no normalization"
            )
        case ConvBase() | Dense() | Flatten() | GroupPool() | Maxout() | Permute():
            return layer, None
    return layer, symmetry


def _meet(name: str, ends: list[Group | None]) -> Group | None:
    if len(set(ends)) > 1:
        found = " and ".join("none" if end is None else repr(end) for end in ends)
        raise LayerError(
            name,
            f"its branches must have the same symmetry, got {found}: let where select the "
            "convolutions before it and in all of its branches, or none of them",
        )
    return ends[0]
