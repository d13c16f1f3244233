"""Models as JSON."""

import dataclasses
import importlib
import re
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import cache, partial
from numbers import Integral, Real
from types import UnionType
from typing import Any, Literal, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from flax import linen as nn

from cnn import layers
from cnn.errors import InputError, unknown_name

Json = Any
Kind = TypeVar("Kind", bound=type)

_KINDS: dict[str, type] = {
    name: kind for name in layers.__all__ if isinstance(kind := getattr(layers, name), type)
}


def serializable(kind: Kind) -> Kind:
    """Let `from_spec` rebuild a dataclass that is not in `cnn.layers`."""
    _KINDS[kind.__name__] = kind
    return kind


def to_spec(model: Any) -> dict[str, Json]:
    """Return the class of `model` and its fields that differ from their defaults, as JSON.

    >>> to_spec(layers.Conv(8, window=(3, 3)))
    {'layer': 'Conv', 'features': 8, 'window': [3, 3]}

    The class of another module is "package.module:Class", and `from_spec` cannot rebuild it.
    """
    kind = type(model)
    spec: dict[str, Json] = {"layer": _name(kind)}
    for field in dataclasses.fields(kind):
        value = getattr(model, field.name)
        if field.name != "parent" and value != field.default:
            spec[field.name] = _value(value)
    return spec


def _name(thing: Any) -> str:
    name: str = thing.__name__
    if _KINDS.get(name) is thing:
        return name
    return qualified_name(thing)


def qualified_name(thing: Any) -> str:
    """Return "module:name" of a class or function, as a program that imports it would say.

    So what `python -m experiments.attention` defines is not of the module `__main__`.
    """
    module = thing.__module__
    if module == "__main__" and (spec := getattr(sys.modules[module], "__spec__", None)):
        module = spec.name
    return f"{module}:{thing.__qualname__}"


def import_function(kind: str, name: str) -> Callable[..., Any]:
    """Return the function "package.module:function". `kind` says in errors what it is for.

    Raises:
        InputError: If it cannot be imported, or is no function.
    """
    module, _, function = name.partition(":")
    try:
        found = getattr(importlib.import_module(module), function, None)
    except (ImportError, ValueError, TypeError) as error:  # no module, no name, a relative name
        raise InputError(f"{kind} {name!r} cannot be imported: {error}") from error
    if not callable(found):
        raise InputError(f"{kind} {name!r} must name a function, but {module} has no such function")
    return cast(Callable[..., Any], found)


def _value(value: Any) -> Json:
    match value:
        case str() | int() | float() | None:
            return value
        case Integral():  # of NumPy
            return int(value)
        case Real():
            return float(value)
        case tuple() | list():
            return [_value(v) for v in value]
        case dict():
            return {str(k): _value(v) for k, v in value.items()}
        case partial():
            arguments = {str(i): v for i, v in enumerate(value.args)} | value.keywords
            return {"partial": _name(value.func), **_value(arguments)}
    if hasattr(value, "__qualname__"):  # a class or function
        return _name(value)
    return to_spec(value) if dataclasses.is_dataclass(value) else str(value)


def from_spec(spec: dict[str, Json]) -> nn.Module:
    """Return the model of a `to_spec`. It looks up names, and executes no code of the spec.

    Raises:
        InputError: If a layer or field is unknown, missing or of the wrong type, or they are
            nested too deeply.
    """
    try:
        model = _layer(spec)
    except RecursionError:
        raise InputError("spec is nested too deeply for Python: nest fewer layers") from None
    if not isinstance(model, nn.Module):
        raise InputError(f"spec must be a layer, got a {type(model).__name__}")
    return model


def _layer(spec: Json) -> Any:
    if not isinstance(spec, dict) or not isinstance(name := spec.get("layer"), str):
        raise InputError(f"spec of a layer must be an object with 'layer', got {_short(spec)}")
    if name not in _KINDS:
        raise unknown_name("layer", name, _KINDS)
    kind: Any = _KINDS[name]
    fields = {f.name: f for f in dataclasses.fields(kind) if f.name != "parent"}
    values = {k: _field(v) for k, v in spec.items() if k != "layer"}
    hints = type_hints(kind)
    for field, value in values.items():
        if field not in fields:
            raise InputError(f"layer {name} has no field {_short(field)}: remove it")
        if not fits(value, hints[field]):
            raise wrong_type(f"{field} of layer {name}", hints[field], spec[field])
    for field, declared in fields.items():
        if field not in values and _is_required(declared):
            raise InputError(f"layer {name} needs field {field!r}: add it")
    return kind(**values)


def _field(value: Json) -> Any:
    if isinstance(value, dict):
        return _layer(value)
    if isinstance(value, list):
        return tuple(_field(v) for v in value)
    return value


@cache
def type_hints(of: Callable[..., Any]) -> dict[str, Any]:
    """Return the types of the fields of a class, or of the arguments of a function."""
    try:
        return get_type_hints(of)
    except NameError as error:
        raise InputError(
            f"annotations of {of.__name__} must have names of its module, got {error}"
        ) from None


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is field.default_factory is dataclasses.MISSING


def fits(value: Any, annotation: Any) -> bool:
    """Return whether a value, with tuples for lists, is of the annotated type."""
    origin, choices = get_origin(annotation), get_args(annotation)
    if origin in (Union, UnionType):
        return any(fits(value, choice) for choice in choices)
    if origin is Literal:
        return isinstance(value, str) and value in choices
    if origin is tuple and choices[1:] != (...,):
        return (
            isinstance(value, tuple)
            and len(value) == len(choices)
            and all(map(fits, value, choices))
        )
    if origin in (tuple, list, Sequence, Iterable):
        return isinstance(value, tuple) and all(fits(each, choices[0]) for each in value)
    if annotation is Any:
        return True
    if annotation in (int, float):
        kind = Integral if annotation is int else Real
        return isinstance(value, kind) and not isinstance(value, bool)
    expected = origin or annotation
    return not isinstance(expected, type) or isinstance(value, expected)


def wrong_type(name: str, annotation: Any, value: Any) -> InputError:
    """Return the error for a value that does not fit its annotation."""
    return InputError(f"{name} must be {_text(annotation)}, got {_short(value)}")


def _text(annotation: Any) -> str:
    """Return an annotation without the modules of its names."""
    text = annotation.__name__ if isinstance(annotation, type) else str(annotation)
    return re.sub(r"[a-z_]\w*\.", "", text)


def differences(old: Json, new: Json, path: str = "") -> list[str]:
    """Return the differences of two JSON values as lines "path: old is not new".

    `new` may have tuples where `old` has lists.
    """
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(k for k in new if k not in old)]
        pairs = [(f"{path}.{k}" if path else k, old.get(k), new.get(k)) for k in keys]
    elif isinstance(old, list) and isinstance(new, list | tuple) and len(old) == len(new):
        pairs = [(f"{path}[{i}]", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    else:
        return [] if old == new else [f"{path}: {_short(old)} is not {_short(new)}"]
    return [line for name, a, b in pairs for line in differences(a, b, name)]


def _short(value: Json) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 40 else text[:37] + "..."
