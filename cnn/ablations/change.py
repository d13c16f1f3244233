"""Ablations as values: a name and arguments."""

from __future__ import annotations

import dataclasses
import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any

from cnn.ablations.plan import ChangeLayers, Layers
from cnn.ablations.rewrite import Where
from cnn.errors import InputError, unknown_name
from cnn.layers.serialization import fits, serializable, type_hints, wrong_type

ABLATIONS: dict[str, Callable[..., Any]] = {}


@serializable
@dataclasses.dataclass(frozen=True)
class Change:
    """An ablation by its name, with its arguments, as a value."""

    ablation: str
    arguments: tuple[tuple[str, Any], ...] = ()
    where: Where = None

    def __post_init__(self) -> None:
        if self.ablation not in ABLATIONS:
            raise unknown_name("ablation", self.ablation, ABLATIONS)
        function = ABLATIONS[self.ablation]
        try:
            inspect.signature(function).bind(None, **dict(self.arguments), where=self.where)
        except TypeError as error:
            raise InputError(f"ablation {self.ablation!r}: {error}") from None
        for name, value in self.arguments:
            kind = type_hints(function)[name]
            if not fits(value, kind):
                raise wrong_type(f"{name} of {self.ablation}", kind, value)

    def __call__(self, layers: Layers) -> Layers:
        """Return the layers, by name, with those changed that `where` selects."""
        function = ABLATIONS[self.ablation]
        changed: Layers = function(layers, **dict(self.arguments), where=self.where)
        return changed

    def __repr__(self) -> str:
        where = () if self.where is None else (("where", self.where),)
        arguments = ", ".join(f"{name}={value!r}" for name, value in (*self.arguments, *where))
        return f"{self.ablation}({arguments})"


def change_all(changes: Sequence[Change]) -> ChangeLayers:
    """Return the composition of changes, the first one first."""
    return lambda layers: functools.reduce(lambda layers, change: change(layers), changes, layers)
