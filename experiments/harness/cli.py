"""What all programs share: typed flags; invalid input is one line and exit code 2."""

from __future__ import annotations

import dataclasses
import difflib
import io
import itertools
import json
import os
import sys
import tomllib
from collections.abc import Callable, Collection, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn, TypeVar, get_type_hints

import tyro
from tyro import _docstrings as tyro_docstrings
from tyro import _errors as tyro_errors

from cnn.errors import InputError, RunError, unknown_name
from cnn.train.fields import check_fields
from experiments.harness import runtime

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Flags = TypeVar("Flags", bound="DataclassInstance")


def parse(flags: type[Flags], args: Sequence[str] | None = None, doc: str | None = None) -> Flags:
    """Read the command line, or `args`, into a frozen dataclass; `--help` begins with `doc`.

    Invalid input ends the program with one line and code 2, instead of tyro's box of lines.
    """
    given = sys.argv[1:] if args is None else list(args)
    if "config" in {field.name for field in dataclasses.fields(flags)}:
        try:
            given = [*_from_config(flags, given), *given]
        except InputError as error:
            fail(str(error))

    def refuse(event: tyro_errors.ParseErrorEvent) -> NoReturn:
        fail(_explain(event, flags, given))

    with tyro_errors.on_parse_error(refuse):
        parsed = tyro.cli(flags, prog=program(), args=given, description=doc)
    try:
        check_fields(parsed)  # of dataclasses that do not check them themselves
    except InputError as error:
        fail(str(error))
    return parsed


def subset(flags: type[DataclassInstance], names: Collection[str]) -> type[DataclassInstance]:
    """Return a dataclass with some of the fields of another, for programs that use only those."""
    hints = get_type_hints(flags)
    kept = []
    for field in dataclasses.fields(flags):
        if field.name in names:
            doc = tyro_docstrings.get_field_docstring(flags, field.name, ())
            kind = str if hints[field.name] is Any else hints[field.name]  # a name; see parse_value
            annotated = Annotated[kind, tyro.conf.arg(help=doc)]  # type: ignore[valid-type]
            kept.append((field.name, annotated, dataclasses.field(default=field.default)))
    made = dataclasses.make_dataclass(f"{flags.__name__}Subset", kept, frozen=True, kw_only=True)
    made.__module__ = flags.__module__
    return made


def _from_config(flags: type[Flags], args: Sequence[str]) -> list[str]:
    """Return the settings of the file `--config` as arguments, without those that `args` give.

    Raises:
        InputError: If it cannot be read, is no TOML, or holds a setting that does not exist.
    """
    named = _values("--config", args)
    if not named:
        return []
    try:
        settings = tomllib.loads(Path(named[-1]).read_text())
    except (OSError, ValueError) as error:  # of a file that is no UTF-8, too
        raise InputError(f"config {named[-1]!r} cannot be read: {error}") from error
    known = {field.name for field in dataclasses.fields(flags)} - {"config"}
    repeated = {f.name for f in dataclasses.fields(flags) if "UseAppendAction" in str(f.type)}
    given = {arg[2:].partition("=")[0].replace("-", "_") for arg in args if arg.startswith("--")}
    found = []
    for name, value in settings.items():
        if name not in known:
            raise unknown_name(f"setting in {named[-1]}", name, known)
        if name not in given and f"no_{name}" not in given:
            for each in value if name in repeated and isinstance(value, list) else [value]:
                found += _as_arguments(name, each)
    return found


def _as_arguments(name: str, value: Any) -> list[str]:
    """Return a value of TOML as a command line gives it."""
    flag = f"--{name.replace('_', '-')}"
    if isinstance(value, bool):
        return [flag if value else flag.replace("--", "--no-", 1)]
    if isinstance(value, dict):
        return [flag, *(f"{key}={json.dumps(each)}" for key, each in value.items())]
    return [flag, *map(str, value if isinstance(value, list) else [value])]


def parse_value(name: str, kind: Any, *words: str) -> Any:
    """Return words as a value of the type `kind`. Raise `InputError` if they are none."""
    if kind is Any:  # a name; in Python also a function
        return " ".join(words)

    def refuse(event: tyro_errors.ParseErrorEvent) -> NoReturn:
        raise InputError(f"{name} cannot be {' '.join(words)!r}: see --help")

    with tyro_errors.on_parse_error(refuse):
        return tyro.cli(kind, args=list(words))


def _explain(event: tyro_errors.ParseErrorEvent, flags: type[Flags], args: Sequence[str]) -> str:
    """Return in one line what tyro found wrong."""
    help_hint = "--help lists the flags"
    if isinstance(event, tyro_errors.MissingArgs):
        unknown = [token for token in event.unrecognized_tokens if token.startswith("--")]
        if not unknown:
            return f"missing argument {event.missing_arguments[0].arg.display_name()}: {help_hint}"
        return _unknown(unknown[0], flags)
    if isinstance(event, tyro_errors.UnrecognizedArgs):
        return _unknown(event.tokens[0], flags)
    if isinstance(event, tyro_errors.InvalidChoice):
        name, choices = event.argument.display_name(), ", ".join(event.choices)
        return f"{name} must be one of {choices}, got {event.value!r}"
    if isinstance(event, tyro_errors.BadValue):
        return f"{event.argument.display_name()} needs a value"
    if isinstance(event, tyro_errors.InstantiationFailure):
        if event.argument is None:  # the dataclass has refused its fields
            return event.message
        name, kind = event.argument.display_name(), str(event.argument.lowered.metavar)
        kinds = {"INT": "whole number", "FLOAT": "number"}
        noun = next((noun for key, noun in kinds.items() if key in kind), kind)
        wanted = f"{noun}s" if kind.startswith("[") else f"a {noun}"
        return f"{name} must be {wanted}, got {' '.join(_values(name, args))!r}"
    return f"invalid arguments: {help_hint}"


def _unknown(token: str, flags: type[Flags]) -> str:
    if not token.startswith("--"):
        return f"unexpected argument {token!r}: --help lists the flags"
    name = token[2:].partition("=")[0]
    fields = [field.name.replace("_", "-") for field in dataclasses.fields(flags)]
    near = [f"--{field}" for field in difflib.get_close_matches(name, fields, n=2)]
    hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the flags"
    return f"unknown argument '--{name}': {hint}"


def _values(name: str, args: Sequence[str]) -> list[str]:
    """Return the words that were given for a flag."""
    found = []
    for i, arg in enumerate(args):
        flag, equals, value = arg.partition("=")
        if flag.replace("_", "-") == name:
            rest = itertools.takewhile(lambda word: not word.startswith("--"), args[i + 1 :])
            found = [value] if equals else list(rest)
    return found


def program() -> str | None:
    """Return the command that started this program, None if it is no module."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {module.name}" if module else None


def run(main: Callable[[Flags], object], flags: type[Flags], doc: str | None = None) -> None:
    """Parse the command line and call `main`; bad input is one line and exit code 2."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a terminal without a character shows "?"
            stream.reconfigure(errors="replace")
    try:
        if flags.__module__ == "__main__":  # not when another program calls this
            runtime.prepare()
        main(parse(flags, doc=doc))
    except InputError as error:
        fail(str(error))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None
    except BrokenPipeError:  # who read the output, `head` perhaps, has ended
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise SystemExit(1) from None


def fail(message: str) -> NoReturn:
    """Print one line on standard error and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
