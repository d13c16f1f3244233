"""Exceptions that end a program with one line: invalid input, and run-time failures."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class InputError(ValueError):
    """Invalid input. The message is one line that names the argument, its value and the remedy.

    Programs print it without a traceback and exit with code 2.
    """


class RunError(RuntimeError):
    """A failure while a program runs: a full disk, a loss that is not finite, a lost host.

    Programs print it without a traceback and exit with code 1. Files already written stay valid.
    """


class LayerError(InputError):
    """Invalid input to a layer. `layer` is the layer's path among the parameters."""

    def __init__(self, layer: str, message: str) -> None:
        super().__init__(f"layer {layer}: {message}" if layer else message)
        self.layer = layer


def unknown_name(kind: str, name: str, known: Iterable[str]) -> InputError:
    """Return the error for a `name` that is not in `known`. It suggests the most similar names.

    >>> print(unknown_name("model", "lenet", ["lenet5", "mlp"]))
    unknown model 'lenet': did you mean 'lenet5'?
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
    if near:
        hint = "did you mean " + " or ".join(repr(n) for n in near) + "?"
    else:
        hint = "choose one of " + ("; " if "," in "".join(names) else ", ").join(names)
    return InputError(f"unknown {kind} {name!r}: {hint}")
