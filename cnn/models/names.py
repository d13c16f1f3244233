"""From a name typed on a command line to the function of that name."""

from __future__ import annotations

from collections.abc import Callable

from flax import linen as nn

from cnn import models
from cnn.errors import unknown_name


def names() -> list[str]:
    """Return the names of all networks."""
    return sorted(set(models.__all__) - {"by_name", "from_torch", "names"})


def by_name(name: str) -> Callable[..., nn.Module]:
    """Return the network function called `name`.

    Raises `InputError`, with the nearest names, if there is none.
    """
    if name not in names():
        raise unknown_name("model", name, names())
    function: Callable[..., nn.Module] = getattr(models, name)
    return function
