"""Models as JSON."""

import dataclasses
from functools import partial
from typing import Any, TypeVar

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
    return f"{thing.__module__}:{thing.__qualname__}"


def _value(value: Any) -> Json:
    match value:
        case str() | int() | float() | None:
            return value
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
    """Return the model of a `to_spec`. It looks up names, and executes no code of the spec."""
    name = spec.get("layer", "")
    if name not in _KINDS:
        raise unknown_name("layer", name, _KINDS)
    kind: Any = _KINDS[name]
    fields = {k: _field(v) for k, v in spec.items() if k != "layer"}
    for field in fields.keys() - {f.name for f in dataclasses.fields(kind)}:
        raise InputError(f"layer {name} has no field {field!r}: remove it")
    model: nn.Module = kind(**fields)
    return model


def _field(value: Json) -> Any:
    if isinstance(value, dict):
        return from_spec(value)
    if isinstance(value, list):
        return tuple(_field(v) for v in value)
    return value


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
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
