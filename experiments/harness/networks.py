"""Networks and their ablations as text, for command lines."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from etils import epy

from cnn.errors import InputError, unknown_name
from cnn.train.fields import parse_arguments, parse_value

with epy.lazy_imports():
    from flax import linen as nn

    from cnn import ablations, models
    from cnn.layers import serialization
    from cnn.train import files

if TYPE_CHECKING:
    Ablation = Callable[..., nn.Module]


def by_name(
    name: str,
    arguments: Sequence[str] = (),
    spec: Path | None = None,
    ablate: Sequence[str] = (),
) -> Callable[[int | None], nn.Module]:
    """Return the function from the number of classes to the network that flags say.

    Args:
        name: A function of `cnn.models`, or "package.module:function".
        arguments: Of the function, as NAME=VALUE.
        spec: In place of `name`, a JSON file with the value of a model, or a `run.json`.
        ablate: Ablations, one after another (`ablation`).

    Raises:
        InputError: If a name is unknown, or the file cannot be read.
    """
    check_given(name, arguments, spec)
    changes = [ablation(text) for text in ablate]
    given = parse_arguments("model_args", arguments)
    value = None if spec is None else serialization.from_spec(_read(spec))
    if value is None:
        models.by_name(name)

    def build(num_classes: int | None) -> nn.Module:
        if num_classes is not None and "num_classes" in given:
            text = given["num_classes"]
            raise InputError(
                f"model_args must not contain num_classes, which the data say, got {text}"
            )
        arguments = {"num_classes": num_classes, **given}
        model = models.build(name, **arguments) if value is None else value
        for change in changes:
            model = change(model)
        return model

    return build


def check_given(name: str, arguments: Sequence[str], spec: Path | None) -> None:
    """Raise `InputError` unless one of name and spec is given, and arguments only with a name."""
    if not name and spec is None:
        raise InputError("model is missing: give --model, or --spec with a file")
    if name and spec is not None:
        raise InputError(f"give model or spec, got {name!r} and {str(spec)!r}")
    if arguments and spec is not None:
        raise InputError(f"model_args are for functions: leave them out with spec {str(spec)!r}")


def _read(path: Path) -> Any:
    """Return the value of a model from its own file, or from a `run.json`."""
    try:
        found = files.read_json(path)
    except (OSError, ValueError) as error:
        raise InputError(f"spec {str(path)!r} cannot be read: {error}") from error
    return found["model"] if isinstance(found, dict) and "model" in found else found


def ablations_by_name() -> dict[str, Ablation]:
    """Return the ablations that apply to chosen layers of a model, by name."""
    functions = {name: getattr(ablations, name) for name in ablations.__all__}
    return {
        name: function
        for name, function in functions.items()
        if inspect.isfunction(function) and "where" in inspect.signature(function).parameters
    }


def ablation(text: str) -> Callable[[nn.Module], nn.Module]:
    """Return the ablation that a text such as "unshare" or "tile:2:where=0" says.

    After the name come its arguments, separated by colons: values in order, or NAME=VALUE. Values
    are JSON, or else text.

    >>> from cnn import layers
    >>> ablation("dilate:2")(layers.Conv(8, (3,)))
    Conv(8, (3,), dilation=2)

    Raises:
        InputError: If there is no such ablation, or its arguments do not fit.
    """
    name, *given = text.split(":")
    known = ablations_by_name()
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

    def change(model: nn.Module) -> nn.Module:
        try:
            return function(model, *positional, **named)
        except TypeError as error:
            line = " ".join(str(error).split())[:200]
            raise InputError(f"ablation {text!r} cannot be made: {line}") from error

    return change
