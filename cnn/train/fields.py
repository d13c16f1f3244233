"""Hold the fields of a dataclass of settings to their annotations, as a command line does."""

from __future__ import annotations

import contextlib
import json
import operator
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from functools import cache
from numbers import Real
from pathlib import Path
from types import NoneType, UnionType
from typing import TYPE_CHECKING, Any, Literal, Union, get_args, get_origin, get_type_hints

from cnn.buckets import BucketPath, bucket_path
from cnn.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance


def check_fields(settings: DataclassInstance) -> None:
    """Convert every field to the type of its annotation. Call it in `__post_init__`.

    An integer becomes a float where one is wanted, a sequence a tuple, and a string a path, whose
    `~` is expanded. Annotations may hold literals, tuples and `| None`.

    Raises:
        InputError: For the first field with a value of another type, that is not a choice, or with
            a path of a home folder that is not known, or of a bucket (gs://) where the annotation
            does not say `Path | BucketPath`.
    """
    hints = _hints(type(settings))
    for name in (field.name for field in fields(settings)):
        value = _convert(name, getattr(settings, name), hints[name])
        object.__setattr__(settings, name, value)  # the dataclass is frozen


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def _convert(name: str, value: Any, kind: Any) -> Any:
    """Return `value` as one of type `kind`."""
    if kind is Any:
        return value
    choices, origin = get_args(kind), get_origin(kind)
    if origin in (Union, UnionType):
        inner, *others = (choice for choice in choices if choice is not NoneType)
        if BucketPath in others and (bucket := bucket_path(str(value))):
            return bucket
        return None if value is None and NoneType in choices else _convert(name, value, inner)
    if origin is tuple:
        if isinstance(value, Mapping) and choices[0] is str:  # as a command line gives it
            return tuple(f"{key}={json.dumps(each)}" for key, each in value.items())
        if isinstance(value, tuple | list | range):
            return tuple(_convert(name, one, choices[0]) for one in value)
        raise _wrong(name, "a tuple", value)
    if origin is Literal:
        if isinstance(value, str) and value in choices:
            return value
        raise _wrong(name, f"one of {', '.join(choices)}", value)
    if kind in (int, float) and not isinstance(value, bool):
        with contextlib.suppress(TypeError, OverflowError):
            if kind is int:
                return operator.index(value)
            if isinstance(value, Real):
                return float(value)
    elif kind is Path and isinstance(value, str | Path):
        return _path(name, str(value))
    elif kind not in (int, float) and isinstance(value, kind):
        return value
    raise _wrong(name, WORDS.get(kind, f"a {kind.__name__}"), value)


def _path(name: str, text: str) -> Path:
    """Return a path of a file system, with the home folder for `~`."""
    path = os.path.expanduser(text)
    if re.fullmatch(r"(gs|s3):/*", path):
        raise InputError(f"{name} must name a bucket, gs://BUCKET/FOLDER, got {path!r}")
    if re.match(r"[a-z0-9]{2,}:/", path):
        raise InputError(f"{name} must be in a file system, got {path!r}: mount the bucket")
    if path.encode(errors="replace").decode() != path:
        raise InputError(f"{name} must be UTF-8, got {path!r}")
    if path.startswith("~"):
        raise InputError(f"{name} must be in a home folder that is known, got {path!r}")
    return Path(path)


WORDS = {bool: "True or False", int: "a whole number", float: "a number", str: "a string"}


def _wrong(name: str, wanted: str, value: Any) -> InputError:
    return InputError(f"{name} must be {wanted}, got {' '.join(repr(value).split())[:100]}")


def parse_arguments(name: str, texts: Sequence[str]) -> dict[str, Any]:
    """Return NAME=VALUE texts as keyword arguments. Values are JSON, or else text.

    >>> parse_arguments("model_args", ["width=32", "norm=group", "window=[3, 3]", "bias=False"])
    {'width': 32, 'norm': 'group', 'window': (3, 3), 'bias': False}

    Raises:
        InputError: If a text has no name or value, or a name is given twice.
    """
    arguments: dict[str, Any] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals and value) or key in arguments:
            raise InputError(f"{name} must be NAME=VALUE with each name once, got {text!r}")
        arguments[key] = parse_value(value)
    return arguments


def parse_value(text: str) -> Any:
    """Return a value from a command line: JSON, a word of Python such as None, or else text."""
    if text in PYTHON:
        return PYTHON[text]
    try:
        return _tuples(json.loads(text))
    except (ValueError, RecursionError):
        return text


def _tuples(value: Any) -> Any:
    """Return JSON with tuples for lists, because fields of models must be hashable."""
    return tuple(map(_tuples, value)) if isinstance(value, list) else value


PYTHON = {"True": True, "False": False, "None": None}
