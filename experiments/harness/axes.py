"""The axes of a sweep: which settings vary, over which values, and the folders of the points."""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, TypeVar, get_args, get_origin

from cnn.errors import InputError, unknown_name
from experiments.harness import cli
from experiments.harness.results import Name

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Flags = TypeVar("Flags", bound="DataclassInstance")
ARGUMENTS = ("model_args", "optimizer_args")
"""Settings that are NAME=VALUE texts, each of which may be an axis."""
LONGEST = 120
"""Characters of a folder's name; file systems allow 255 bytes."""


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones if both are."""

    low: int | float
    high: int | float
    log: bool = False
    """Whether the logarithms are uniform."""


@dataclass(frozen=True)
class Axis:
    """A setting that varies: over texts as a command line gives them, or over a range."""

    name: str
    values: tuple[str, ...] | Range

    @property
    def ends(self) -> tuple[str, ...]:
        """All values, or both ends of the range."""
        if isinstance(self.values, Range):
            return str(self.values.low), str(self.values.high)
        return self.values


def parse(over: Sequence[str], known: Collection[str]) -> list[Axis]:
    """Return the axes that NAME=A,B,C and NAME=LOW..HIGH texts say.

    Raises:
        InputError: If a name is not `known` or given twice, or a range is none.
    """
    axes: dict[str, Axis] = {}
    for text in over:
        name, _, listed = text.partition("=")
        field, dot, argument = name.partition(".")
        field = field.replace("-", "_")
        name = f"{field}{dot}{argument}"
        if dot and field in ARGUMENTS and not argument:
            raise InputError(f"over {name} must name an argument: {field}.width=8,16")
        if field not in known or (dot and field not in ARGUMENTS):
            examples = [f"{each}.NAME" for each in ARGUMENTS]
            raise unknown_name("setting", name, [*known, *examples])
        values = _range(name, listed) or _split(listed)
        empty = isinstance(values, tuple) and not all(values)
        if name in axes or empty:
            raise InputError(f"over must be NAME=A,B,C with each name once, got {text!r}")
        axes[name] = Axis(name, values)
    if not axes:
        raise InputError("over is missing: give --over NAME=A,B,C, for example lr=1e-3,1e-2")
    for name in axes:
        if name.partition(".")[0] in axes and "." in name:
            raise InputError(f"over varies {name} and all of {name.partition('.')[0]}: give one")
    return list(axes.values())


def _split(text: str) -> tuple[str, ...]:
    """Return what stands between commas that are not in brackets, each once."""
    parts, depth = [""], 0
    for sign in text:
        depth += (sign in "([{") - (sign in ")]}")
        if sign == "," and depth <= 0:
            parts.append("")
        else:
            parts[-1] += sign
    return tuple(dict.fromkeys(parts))


def _range(name: str, text: str) -> Range | None:
    match = re.fullmatch(r"(.+?)\.\.(.+?)(:log)?", text)
    if match is None:
        return None
    low, high = _number(match[1]), _number(match[2])
    if low is None and high is None:  # a path, say
        return None
    if low is None or high is None or not low < high or (match[3] and low <= 0):
        raise InputError(
            f"over {name} must be a range LOW..HIGH of two numbers, the smaller first, or "
            f"LOW..HIGH:log of positive ones, got {text!r}"
        )
    return Range(low, high, bool(match[3]))


def _number(text: str) -> int | float | None:
    for kind in (int, float):
        with contextlib.suppress(ValueError):
            value = kind(text)
            return value if abs(value) < float("inf") else None
    return None


def grid(axes: Sequence[Axis]) -> list[Name]:
    """Return all combinations of the values, in order.

    Raises:
        InputError: If an axis is a range.
    """
    for axis in axes:
        if isinstance(axis.values, Range):
            raise InputError(
                f"over {axis.name} is a range, which a grid cannot list: give A,B,C, or "
                "--search random --trials N"
            )
    return list(itertools.product(*(axis.ends for axis in axes)))


def corners(axes: Sequence[Axis]) -> list[Name]:
    """Return points that have every value, or both ends, of every axis at least once."""
    first = [axis.ends[0] for axis in axes]
    return list(
        dict.fromkeys(
            (*first[:i], value, *first[i + 1 :])
            for i, axis in enumerate(axes)
            for value in axis.ends
        )
    )


def at_point(flags: Flags, hints: Mapping[str, Any], names: Sequence[str], point: Name) -> Flags:
    """Return the flags with the values of one point; `hints` are the types of the settings."""
    changes: dict[str, Any] = {}
    for name, text in zip(names, point, strict=True):
        field, dot, argument = name.partition(".")
        if dot:
            given = changes.get(field, getattr(flags, field))
            others = (each for each in given if each.partition("=")[0] != argument)
            changes[field] = (*others, f"{argument}={text}")
        else:
            changes[field] = _value(name, hints[name], text)
    return replace(flags, **changes)


def _value(name: str, kind: Any, text: str) -> Any:
    """Return a text as the value of a setting. "none" is an empty tuple, blanks separate words."""
    if get_origin(kind) is tuple and text.lower() == "none":
        return ()
    if Any in get_args(kind):  # names, or in Python functions
        return tuple(text.split())
    is_tuple = any(get_origin(each) is tuple for each in (kind, *get_args(kind)))
    return cli.parse_value(f"over {name}", kind, *(text.split() if is_tuple else [text]))


def label(names: Sequence[str], point: Name) -> str:
    """Return the values of a point as "lr=1e-3,model=mlp"."""
    return ",".join(f"{name}={value}" for name, value in zip(names, point, strict=True))


def folder_name(names: Sequence[str], point: Name) -> str:
    """Return the name of a point's folder: its label, if a folder can have it.

    Other signs become "-". Names that are changed or cut end with "@" and a hash of the exact
    values, so that two points never share a folder.
    """
    exact = label(names, point)
    name = re.sub(r"[^A-Za-z0-9_.,=+:-]", "-", exact)
    if name == exact and len(name) <= LONGEST:
        return name
    digest = hashlib.sha256(repr((tuple(names), point)).encode()).hexdigest()[:8]
    return f"{name[:LONGEST]}@{digest}"
