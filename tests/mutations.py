"""Hypothesis strategies: JSON values, and valid ones with a fault in one place."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import strategies as st

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 3),
    st.sampled_from([10**400, -(2**63)]),
    st.floats(),
    st.text(max_size=3),
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(value: Any) -> list[tuple[Any, Any]]:
    """Return every container in a JSON value, with each of its keys or indices."""
    if not isinstance(value, dict | list):
        return []
    items = list(value.items() if isinstance(value, dict) else enumerate(value))
    return [(value, key) for key, _ in items] + [p for _, v in items for p in places(v)]


@st.composite
def mutated(draw: st.DrawFn, valid: Any) -> Any:
    """Return a copy of a JSON value with one part replaced, moved, removed or added."""
    value = copy.deepcopy(valid)
    container, key = draw(st.sampled_from(places(value)))
    match draw(st.sampled_from(["replace", "move", "remove", "add"])):
        case "replace":
            container[key] = draw(JSON)
        case "move":
            other, place = draw(st.sampled_from(places(copy.deepcopy(valid))))
            container[key] = other[place]
        case "remove":
            del container[key]
        case "add" if isinstance(container, dict):
            container[draw(st.text(max_size=3))] = draw(JSON)
        case "add":
            container.insert(key, draw(JSON))
    return value
