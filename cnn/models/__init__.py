"""Named networks: each a function that returns a module."""

import inspect
from collections.abc import Callable
from typing import Any

from flax import linen as nn

from cnn.errors import InputError, unknown_name
from cnn.layers.serialization import import_function
from cnn.models.alexnet import alexnet
from cnn.models.from_torch import from_torch, to_torch
from cnn.models.inception import googlenet, small_inception
from cnn.models.papers import d_conv, full_conv, s_conv
from cnn.models.resnet import resnet18
from cnn.models.saved import load, save
from cnn.models.separable import mobilenet_v1, separable_net, xception
from cnn.models.small import cnn1d, lecture_cnn, lenet5, logistic, mlp
from cnn.models.vgg import small_vgg, vgg11, vgg13, vgg16, vgg19

__all__ = [
    "alexnet",
    "build",
    "by_name",
    "cnn1d",
    "d_conv",
    "from_torch",
    "full_conv",
    "googlenet",
    "lecture_cnn",
    "lenet5",
    "load",
    "logistic",
    "mlp",
    "mobilenet_v1",
    "names",
    "resnet18",
    "s_conv",
    "save",
    "separable_net",
    "small_inception",
    "small_vgg",
    "to_torch",
    "vgg11",
    "vgg13",
    "vgg16",
    "vgg19",
    "xception",
]


def names() -> list[str]:
    """Return the names of all networks."""
    return sorted(
        set(__all__) - {"build", "by_name", "from_torch", "load", "names", "save", "to_torch"}
    )


def by_name(name: str) -> Callable[..., nn.Module]:
    """Return the function that makes a network.

    Args:
      name: one of `names()`, or "package.module:function" for a function of your own, which is
        imported.

    Raises:
      InputError: there is no such function; suggests the nearest names.
    """
    if ":" in name:
        return import_function("model", name)
    if name not in names():
        raise unknown_name("model", name, names())
    made: Callable[..., nn.Module] = globals()[name]
    return made


def build(name: str, num_classes: int | None = None, **arguments: Any) -> nn.Module:
    """Return the network that the function called `name` makes.

    Args:
      name: as in `by_name`.
      num_classes: is passed on if the function has such an argument.
      arguments: further arguments of the function.

    Raises:
      InputError: there is no such function, it does not take the arguments, or it returns no Linen
        module.
    """
    function = by_name(name)
    signature = inspect.signature(function)
    takes_any = any(p.kind is p.VAR_KEYWORD for p in signature.parameters.values())
    for argument in arguments:
        if argument not in signature.parameters and not takes_any:
            raise unknown_name(f"argument of model {name}", argument, signature.parameters)
    if num_classes is not None and "num_classes" in signature.parameters:
        arguments["num_classes"] = num_classes
    try:
        signature.bind(**arguments)
    except TypeError as error:
        raise InputError(f"model {name!r}: {error}: give it as an argument of the model") from error
    try:
        made = function(**arguments)
    except TypeError as error:
        line = " ".join(str(error).split())[:200]
        raise InputError(f"model {name!r} cannot be made with {arguments}: {line}") from error
    if not isinstance(made, nn.Module):
        raise InputError(f"model {name!r} must return a Linen module, got {type(made).__name__}")
    return made
