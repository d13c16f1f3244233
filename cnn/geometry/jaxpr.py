"""Reading a jaxpr: the program inside a call, and the names of a function's parameters."""

import math
from collections.abc import Iterator
from typing import Any

import jax
from jax.extend.core import ClosedJaxpr, Jaxpr, JaxprEqn, Literal, Var, jaxprs_in_params
from jaxtyping import Array, ArrayLike, PyTree

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


def equations(program: Jaxpr | ClosedJaxpr) -> Iterator[JaxprEqn]:
    """Yield the equations of a program, and of all programs inside it."""
    for eqn in closed(program).jaxpr.eqns:
        yield eqn
        for inner in jaxprs_in_params(eqn.params):
            yield from equations(inner)


def out_shapes(eqn: JaxprEqn) -> list[tuple[int, ...]]:
    """Return the shapes of an equation's outputs."""
    return [aval(variable).shape for variable in eqn.outvars]


def out_bytes(eqn: JaxprEqn) -> int:
    """Return the size of an equation's first output."""
    output = aval(eqn.outvars[0])
    return output.size * output.dtype.itemsize


def closed(program: Jaxpr | ClosedJaxpr) -> ClosedJaxpr:
    """Return a program together with its constants."""
    return program if isinstance(program, ClosedJaxpr) else ClosedJaxpr(program, ())


def leaf_names(params: PyTree) -> list[str]:
    """Return the path of every leaf: "Conv_0/kernel", "layers/0/weight"."""
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(params)]
    # The last part of a path in an `nnx.State` is the attribute of a variable that holds its array.
    variable = jax.tree_util.GetAttrKey("value")
    return ["/".join(map(_key, p[:-1] if p[-1:] == (variable,) else p)) for p in paths]


def _key(key: object) -> str:
    """Return a part of a path: the key of a mapping, an index, or an attribute's name."""
    return jax.tree_util.keystr((key,), simple=True)


def moved_axes(eqn: JaxprEqn) -> list[int | None] | None:
    """Return where each axis of the first operand is in the result, if `eqn` only moves it.

    None for an axis that is split, merged or repeated, and for any other equation. Casts move.
    """
    params, shape, axes = eqn.params, aval(eqn.invars[0]).shape, range(aval(eqn.invars[0]).ndim)
    match eqn.primitive.name:
        case "convert_element_type" | "copy" | "reduce_precision" | "name":
            return list(axes)
        case "transpose":
            return [params["permutation"].index(a) for a in axes]
        case "squeeze":
            kept = [a for a in axes if a not in params["dimensions"]]
            return [kept.index(a) if a in kept else None for a in axes]
        case "broadcast_in_dim":
            at, new = params["broadcast_dimensions"], params["shape"]
            return [int(at[a]) if new[at[a]] == shape[a] else None for a in axes]
        case "reshape":
            # An axis stays where its size and the number of elements before it stay.
            new = params["new_sizes"]
            ends = {(math.prod(new[:b]), new[b]): b for b in reversed(range(len(new)))}
            return [ends.get((math.prod(shape[:a]), shape[a])) for a in axes]
    return None


def aval(variable: Var | Literal) -> jax.ShapeDtypeStruct:
    """Return the shape and type of an operand or result."""
    value: Any = variable.aval
    return value


def evaluate(eqn: JaxprEqn, *operands: ArrayLike) -> list[Array]:
    """Return the results of one equation, with the custom derivative that it may have."""
    params = eqn.primitive.get_bind_params(eqn.params)
    with eqn.ctx.manager:
        results = eqn.primitive.bind(*operands, **params)
    return results if eqn.primitive.multiple_results else [results]
