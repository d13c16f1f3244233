"""What every entry point shares: typed flags in, one line and exit code 2 for bad input."""

from __future__ import annotations

import dataclasses
import difflib
import sys
import typing
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from cnn.errors import InputError, RunError
from experiments.harness import runtime

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Flags = TypeVar("Flags", bound="DataclassInstance")


def parse(flags: type[Flags], args: Sequence[str] | None = None, doc: str | None = None) -> Flags:
    """Read the command line, or `args` in its stead, into the frozen dataclass `flags`.

    `doc`, an entry point's own docstring, is what `--help` opens with. Exits with code 2 and one
    line where a flag is unknown, with the nearest ones, or missing.
    """
    import tyro

    given = sys.argv[1:] if args is None else list(args)
    check_names(flags, given)
    if not {"-h", "--help"} & set(given):
        check_values(flags, given)
    return tyro.cli(flags, prog=program(), args=given, description=doc)


def program() -> str | None:
    """Return how the running program is called, None if it is no module."""
    module = getattr(sys.modules["__main__"], "__spec__", None)
    return f"python -m {module.name}" if module else None


def check_values(flags: type[Flags], args: Sequence[str]) -> None:
    """Fail with one line if a flag in `args` has no value, too many, or one of another type."""
    hints = typing.get_type_hints(flags)
    positions = [f for f in dataclasses.fields(flags) if not f.kw_only]
    groups = _grouped(args)
    if positions and positions[0].default is dataclasses.MISSING and not any(groups[0][1]):
        fail(f"missing argument {positions[0].name}: give it first, --help lists the flags")
    for flag, values in groups:
        name = flag.removeprefix("--").replace("-", "_")
        kind = hints.get(name, bool)
        many = typing.get_origin(kind) is tuple
        wanted = 0 if kind is bool else 1
        if len(values) < wanted:
            fail(f"argument {flag} has no value: give one")
        if not many and len(values) > wanted + len(positions):
            fail(f"unexpected argument {values[-1]!r}: --help lists the flags")
        for value in values if many else values[:wanted]:
            if (problem := _mistyped(kind, value)) is not None:
                fail(f"argument {flag} {value!r} {problem}")


def _grouped(args: Sequence[str]) -> list[tuple[str, list[str]]]:
    """Return each flag with the words up to the next; the first group has none."""
    groups: list[tuple[str, list[str]]] = [("", [])]
    for arg in args:
        if arg.startswith("--"):
            flag, equals, value = arg.partition("=")
            groups.append((flag.replace("_", "-"), [value] if equals else []))
        else:
            groups[-1][1].append(arg)
    return groups


def _mistyped(kind: Any, value: str) -> str | None:
    """Return what is wrong with the value of a flag, in words, or None."""
    options = typing.get_args(kind)
    if typing.get_origin(kind) is typing.Literal:
        return None if value in options else f"is not one of {', '.join(map(str, options))}"
    if options:  # int | None, tuple[int, ...]
        kinds = [option for option in options if option not in (type(None), ...)]
        return None if type(None) in options and value == "None" else _mistyped(kinds[0], value)
    if kind in (int, float):
        try:
            kind(value)
        except ValueError:
            return "is not a whole number" if kind is int else "is not a number"
    return None


def check_names(flags: type[Flags], args: Sequence[str]) -> None:
    """Fail with one line if `args` has a flag that is not a field of `flags`, or lacks one."""
    fields = {f"--{field.name.replace('_', '-')}": field for field in dataclasses.fields(flags)}
    switches = {"--no-" + n[2:] for n, field in fields.items() if isinstance(field.default, bool)}
    known = {"--help", *fields, *switches}
    named = {arg.partition("=")[0].replace("_", "-") for arg in args if arg.startswith("--")}
    for name in sorted(named - known):
        near = difflib.get_close_matches(name, known - {"--help"}, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the flags"
        fail(f"unknown argument {name!r}: {hint}")
    if named.isdisjoint({"--help"}) and "-h" not in args:
        for name, field in fields.items():
            required = {field.default, field.default_factory} == {dataclasses.MISSING}
            # A field that is not for keywords only is a position on the command line, not a flag.
            if required and field.kw_only and name not in named:
                fail(f"missing argument {name}: --help lists the flags")


def run(main: Callable[[Flags], None], flags: type[Flags], doc: str | None = None) -> None:
    """Parse the command line and call `main`; bad input is one line and exit code 2."""
    if main.__module__ == "__main__":  # a program, and nobody's who has one running
        runtime.prepare()
    parsed = parse(flags, doc=doc)
    try:
        main(parsed)
    except InputError as error:
        fail(str(error))
    except RunError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def fail(message: str) -> NoReturn:
    """Print one line on standard error and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
