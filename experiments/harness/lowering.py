"""A training step for devices that are not there: traced, lowered, and counted. Nothing runs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend import core
from jax.sharding import AbstractMesh, Mesh, NamedSharding, PartitionSpec

from cnn.train.compile import training_program
from cnn.train.devices import BY_EXAMPLE_AND_SEED, over_mesh
from cnn.train.ensemble import States
from cnn.train.optimizers import make_optimizer
from cnn.train.recipe import Recipe
from cnn.train.sharding import GATHER, shardings
from cnn.train.state import init_state
from cnn.train.step import Batch

OPERATIONS = ("convolution", "dot_general", "custom_call")
"""Operations of StableHLO that are counted."""
COLLECTIVES = {
    **dict.fromkeys(("psum", "psum_invariant", "pmax", "pmin"), "all-reduce"),
    **dict.fromkeys(("all_gather", "all_gather_invariant"), "all-gather"),
    **{"reduce_scatter": "reduce-scatter", "all_to_all": "all-to-all"},
    **{"ppermute": "collective-permute"},
}
"""JAX's collective primitives by the name that XLA has for them."""
GRADIENTS, LAYERS = "gradients, running statistics and metrics", "statistics of batch norm layers"
SPREAD = "weights that are spread, and their gradients"


class Step(NamedTuple):
    """The program of one training step of all seeds, traced with abstract arguments."""

    traced: Any
    state: States
    """Of all seeds, as shapes."""
    batch: Batch
    """Over all devices, as shapes."""


def trace_step(
    model: nn.Module,
    recipe: Recipe,
    input_shape: tuple[int, ...],
    devices: int | Sequence[jax.Device],
    batch_size: int,
) -> Step:
    """Trace the step that `experiments.train` runs on so many TPUs or GPUs.

    The host feeds the batch: images as float32, and their labels. For a number of devices the step
    can be lowered, for devices compiled, too.

    Raises:
        InputError: If the model cannot take the input, or the optimizer is not known.
    """
    init = partial(init_state, model, make_optimizer(recipe), input_shape, average=recipe.ema > 0)
    state = (jax.eval_shape(init, 0, 1.0),) * recipe.seeds
    leading = (batch_size, 1, recipe.seeds)
    x: Any = jax.ShapeDtypeStruct((*leading, *input_shape), jnp.float32)
    y: Any = jax.ShapeDtypeStruct(leading, jnp.int32)
    batch = Batch(x, y)
    # The mesh of DeviceMap, but of devices that need not exist.
    axes = ("seed", "data")
    mesh: Any = (
        AbstractMesh((1, devices), axes)
        if isinstance(devices, int)
        else Mesh(np.asarray(devices).reshape(1, -1), axes)
    )
    run = training_program(model, recipe, "tpu", mesh)
    if recipe.shard_params:
        state = _with(shardings(state, mesh), state)
    else:
        state = _with(_all(state, NamedSharding(mesh, PartitionSpec())), state)
        run = over_mesh(run, mesh, PartitionSpec(), BY_EXAMPLE_AND_SEED)
    batch = _with(_all(batch, NamedSharding(mesh, BY_EXAMPLE_AND_SEED)), batch)
    return Step(jax.jit(run, donate_argnums=0).trace(state, (), batch), state, batch)


def _all(tree: Any, sharding: NamedSharding) -> Any:
    return jax.tree.map(lambda _: sharding, tree)


def _with(where: Any, shapes: Any) -> Any:
    return jax.tree.map(lambda a, sharding: a.update(sharding=sharding), shapes, where)


def nbytes(tree: Any) -> int:
    """Return the bytes of all arrays of a tree of arrays or shapes."""
    return sum(a.size * a.dtype.itemsize for a in jax.tree.leaves(tree))


def count_operations(step: Step, platform: str) -> dict[str, int]:
    """Lower for "tpu" or "cuda", and return how often each of `OPERATIONS` is in the module.

    A function that is called twice counts twice, the body of a loop once.
    """
    module = step.traced.lower(lowering_platforms=(platform,)).compiler_ir("stablehlo")
    functions = {str(f.attributes["sym_name"]): f for f in module.body.operations}
    known: dict[str, Counter[str]] = {}

    def of_function(name: str) -> Counter[str]:
        if name not in known:
            known[name] = inside(functions[name])
        return known[name]

    def inside(operation: Any) -> Counter[str]:
        total: Counter[str] = Counter()
        for region in operation.regions:
            for block in region:
                for each in block:
                    name = each.operation.name
                    total[name.removeprefix("stablehlo.")] += 1
                    if name == "func.call":
                        callee = str(each.operation.attributes["callee"]).removeprefix("@")
                        total += of_function(f'"{callee}"')
                    total += inside(each.operation)
        return total

    found = of_function('"main"')
    return {name: found[name] for name in OPERATIONS}


def implementations(step: Step, platform: str) -> dict[str, int]:
    """Return how often a platform has an implementation of its own, in place of the definition.

    Forward and backward pass count, each by the name of the implementing function.
    """
    found: Counter[str] = Counter()
    for equation, *_ in _walk(step.traced.jaxpr.jaxpr):
        for platforms, branch in zip(
            equation.params.get("branches_platforms") or (),
            equation.params.get("branches", ()),
            strict=False,
        ):
            if platforms is not None and platform in platforms:
                found[branch.jaxpr.debug_info.func_name] += 1
    return dict(found)


class Collective(NamedTuple):
    """A kind of collective operation at one place of the step."""

    kind: str
    place: str
    operations: int
    nbytes: int
    """Of whole arrays."""

    @property
    def reduced(self) -> int:
        """Bytes whose all-reduce, a reduce-scatter and an all-gather, sends as much."""
        return self.nbytes if self.kind == "all-reduce" else self.nbytes // 2


def collectives(step: Step) -> list[Collective]:
    """Return the collective operations over the devices, of one step, by kind and place.

    Those inside the differentiated loss belong to layers: of this project's, batch normalization
    has some. XLA combines many of one kind into few, and with `shard_params` adds what norms over
    all weights need.
    """
    counts: Counter[tuple[str, str]] = Counter()
    sizes: Counter[tuple[str, str]] = Counter()
    for equation, times, place in _walk(step.traced.jaxpr.jaxpr):
        kind = COLLECTIVES.get(equation.primitive.name)
        axes = equation.params.get("axes", equation.params.get("axis_name", ()))
        if kind is None or "data" not in (axes if isinstance(axes, tuple) else (axes,)):
            continue
        given, made = (
            nbytes([v.aval for v in each]) for each in (equation.invars, equation.outvars)
        )
        counts[kind, place] += times * len(equation.invars)
        sizes[kind, place] += times * max(given, made)
    return [Collective(*key, counts[key], sizes[key]) for key in counts]


def place_of(scopes: str, otherwise: str = GRADIENTS) -> str:
    """Return the place in the step that the names of an operation's scopes say."""
    return SPREAD if GATHER in scopes else LAYERS if "jvp(" in scopes else otherwise


def _walk(
    jaxpr: core.Jaxpr, times: int = 1, place: str = GRADIENTS
) -> Iterator[tuple[core.JaxprEqn, int, str]]:
    """Yield every equation, how often it runs, and its place in the step."""
    for equation in jaxpr.eqns:
        here = place_of(str(equation.source_info.name_stack), place)
        yield equation, times, here
        inner = times * equation.params.get("length", 1)
        for each in core.jaxprs_in_params(equation.params):
            yield from _walk(each, inner, here)
