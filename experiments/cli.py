"""What every entry point shares: typed flags in, one line and exit code 2 for bad input."""

from __future__ import annotations

import dataclasses
import difflib
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NoReturn, TypeVar

from cnn.errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Flags = TypeVar("Flags", bound="DataclassInstance")


def parse(flags: type[Flags], args: Sequence[str] | None = None, doc: str | None = None) -> Flags:
    """Read the command line, or `args` in its stead, into the frozen dataclass `flags`.

    `doc`, an entry point's own docstring, is what `--help` opens with. Exits with code 2 and one
    line, with the nearest flags, where a flag is unknown.
    """
    import tyro

    parsed, unknown = tyro.cli(flags, args=args, description=doc, return_unknown_args=True)
    if unknown:
        known = ["--" + field.name.replace("_", "-") for field in dataclasses.fields(flags)]
        near = difflib.get_close_matches(unknown[0], known, n=2)
        hint = f"did you mean {' or '.join(near)}?" if near else "--help lists the flags"
        fail(f"unknown argument {unknown[0]!r}: {hint}")
    return parsed


def run(main: Callable[[Flags], None], flags: type[Flags], doc: str | None = None) -> None:
    """Parse the command line and call `main`; an `InputError` becomes one line and exit code 2."""
    parsed = parse(flags, doc=doc)
    try:
        main(parsed)
    except InputError as error:
        fail(str(error))
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        raise SystemExit(130) from None


def fail(message: str) -> NoReturn:
    """Print one line on standard error and exit with code 2."""
    print(f"error: {message}", file=sys.stderr)
    raise SystemExit(2)
