"""Reading a jaxpr: the program inside a call, and the names of a function's parameters."""

from collections.abc import Sequence

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn
from jaxtyping import PyTree

CALLS = (
    *("jit", "closed_call", "checkpoint", "remat2"),
    *("custom_jvp_call", "custom_vjp_call", "custom_vmap_call"),
)
"""The primitives that run one program once, on their operands, in order."""


def called(eqn: JaxprEqn) -> ClosedJaxpr | None:
    """Return the program that a call runs, of a primitive in `CALLS`; None for any other."""
    if eqn.primitive.name not in CALLS:
        return None
    programs = (eqn.params[key] for key in ("jaxpr", "call_jaxpr", "call") if key in eqn.params)
    return closed(next(programs))


def closed(program: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """Return a program together with its constants."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def leaf_names(params: PyTree) -> list[str]:
    """Return the path of every leaf: "Conv_0/kernel", "layers/0/weight"."""
    return ["/".join(map(_key, path)) for path, _ in jax.tree_util.tree_leaves_with_path(params)]


def _key(key: object) -> str:
    """Return a part of a path: the key of a mapping, an index, or an attribute's name."""
    return jax.tree_util.keystr((key,), simple=True)


def common_parent(paths: Sequence[str]) -> str:
    """Return the longest path that all of `paths` lie below."""
    parts = [path.split("/")[:-1] for path in paths]
    shared = next(
        (i for i, at in enumerate(zip(*parts, strict=False)) if len(set(at)) > 1),
        min(map(len, parts), default=0),
    )
    return "/".join(parts[0][:shared]) if parts else ""
