"""What ends a run with one line: what was asked for cannot be, or the world got in the way."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Bad input. Its message is one line that names the argument, the value and the remedy.

    Entry points print it without a traceback and exit with code 2; any exception but this and
    `RunError` is a defect of this code and keeps its traceback.
    """


class RunError(RuntimeError):
    """A run that could not go on: a full disk, a loss that is not a number, a lost host.

    Entry points print it without a traceback and exit with code 1. What was written stands.
    """


class LayerError(InputError):
    """Bad input to the layer of a network that is called `layer`, its path among the parameters."""

    def __init__(self, layer: str, message: str) -> None:
        super().__init__(f"layer {layer}: {message}" if layer else message)
        self.layer = layer


def join_names(names: Iterable[str]) -> str:
    """Return the names after each other, apart by semicolons where some hold commas."""
    names = list(names)
    return ("; " if any("," in name for name in names) else ", ").join(names)


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest of them.

    >>> print(unknown_name("model", "lenet", ["lenet5", "mlp"]))
    unknown model 'lenet': did you mean 'lenet5'?
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = "did you mean " + " or ".join(repr(n) for n in near) + "?"
    else:
        hint = "choose one of " + join_names(names)
    return InputError(f"unknown {kind} {name!r}: {hint}")
