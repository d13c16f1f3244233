"""Write a small study that runs, to change into your own.

    python -m experiments.new NAME
    python -m experiments.new NAME --folder studies

The file has a question, settings and points. The harness trains the points and makes the table, the
findings and the figure.
"""

from __future__ import annotations

import importlib.util
import keyword
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from cnn.errors import InputError, RunError
from experiments.harness import cli

HERE = Path(__file__).resolve().parent
TEMPLATE = HERE / "harness" / "template.py"


@dataclass(frozen=True, kw_only=True)
class Flags:
    """What the study is called, and where it goes."""

    name: Annotated[str, tyro.conf.Positional]
    """Name of the study and of its file."""
    folder: Path = HERE
    """Folder of the file."""


def main(flags: Flags) -> None:
    """Write the file and print the command that runs it."""
    path = write(flags.name, flags.folder)
    print(f"{path} is written. Check that it runs:\n\n    {_command(path)} --smoke")


def write(name: str, folder: Path) -> Path:
    """Write the study and return its path, relative to the current folder if it is inside.

    Raises:
        InputError: If the name is taken, no identifier, or that of a module.
    """
    if not name.isidentifier() or keyword.iskeyword(name):
        better = re.sub(r"\W", "_", name)
        fits = better != name and better.isidentifier()
        hint = f"write {better}" if fits else "use letters, digits and underscores"
        raise InputError(f"name must be a Python identifier, got {name!r}: {hint}")
    path = Path(os.path.relpath(folder.expanduser() / f"{name}.py"))
    path = path if path.parts[0] != ".." else path.resolve()
    if path.exists():
        raise InputError(f"name {name!r} is taken, by {path}: choose another")
    modules = (name, f"experiments.{name}")
    if name in sys.stdlib_module_names or any(map(importlib.util.find_spec, modules)):
        raise InputError(
            f"name {name!r} is that of a module, which could not be imported then: choose another"
        )
    text = TEMPLATE.read_text(encoding="utf-8")
    text = text.replace("python -m experiments.NAME", _command(path, "python"))
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("x", encoding="utf-8") as file:
            file.write(text.replace("NAME", name))
    except OSError as error:
        raise RunError(f"{path} cannot be written: {error.strerror}") from error
    return path


def _command(path: Path, python: str = "") -> str:
    """Return the command that runs a study, by its module if it is a program of this package."""
    python = python or os.path.relpath(sys.executable)
    python = python if not python.startswith("..") else sys.executable
    in_package = path.resolve().parent == HERE.resolve() and Path.cwd() == HERE.parent
    words = ["-m", f"experiments.{path.stem}"] if in_package else [str(path)]
    return shlex.join([python, *words])


if __name__ == "__main__":
    cli.run(main, Flags, __doc__)
