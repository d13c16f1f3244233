"""Ablations as text, for command lines."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING

from etils import epy

from cnn.errors import InputError, unknown_name
from cnn.train.fields import parse_value

with epy.lazy_imports():
    from flax import linen as nn

    from cnn import ablations

if TYPE_CHECKING:
    Ablation = Callable[..., nn.Module]


def names() -> dict[str, Ablation]:
    """Return the ablations that apply to chosen layers of a model, by name."""
    functions = {name: getattr(ablations, name) for name in ablations.__all__}
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function) and "where" in inspect.signature(function).parameters
    }


def by_name(text: str) -> Callable[[nn.Module], nn.Module]:
    """Return the ablation that a text such as "unshare" or "tile:2:where=0" says.

    After the name come its arguments, separated by colons: values in order, or NAME=VALUE. Values
    are JSON, or else text.

    >>> from cnn import layers
    >>> by_name("dilate:2")(layers.Conv(8, (3,)))
    Conv(8, (3,), dilation=2)

    Raises:
        InputError: If there is no such ablation, or its arguments do not fit.
    """
    name, *given = text.split(":")
    known = names()
    if name not in known:
        raise unknown_name("ablation", name, known)
    function = known[name]
    positional = [parse_value(each) for each in given if "=" not in each]
    pairs = [each.partition("=") for each in given if "=" in each]
    named = {key: parse_value(value) for key, _, value in pairs}
    try:
        inspect.signature(function).bind(nn.Module(), *positional, **named)
    except TypeError as error:
        raise InputError(f"ablation {text!r} does not fit {name}: {error}") from error

    def ablation(model: nn.Module) -> nn.Module:
        try:
            return function(model, *positional, **named)
        except TypeError as error:
            line = " ".join(str(error).split())[:200]
            raise InputError(f"ablation {text!r} cannot be made: {line}") from error

    return ablation
