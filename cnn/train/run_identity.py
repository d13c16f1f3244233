"""What a run is, so that only the same run continues: its settings, data and program."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator
from functools import lru_cache, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from jax.extend.core import ClosedJaxpr, Jaxpr
from jax.typing import ArrayLike

from cnn.data import Dataset
from cnn.errors import InputError
from cnn.layers.combinators import train_argument
from cnn.layers.serialization import differences
from cnn.ops.implementations import use
from cnn.train.losses import make_loss
from cnn.train.metrics import make_metrics, measure
from cnn.train.optimizers import make_optimizer
from cnn.train.recipe import Recipe, is_by_name
from cnn.train.step import forward

logger = logging.getLogger(__name__)


def check_identity(step: int, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Raise `InputError` if the checkpoint of `step` is of another run or of changed code.

    Another version of JAX traces other programs. It is a warning, because they prove nothing.
    """
    old_program, new_program = old.get("program"), new.get("program")
    if other := differences({**old, "program": new_program}, new):
        more = f" (and {len(other) - 3} more)" if len(other) > 3 else ""
        raise InputError(
            f"the checkpoint of step {step} is of another run: {'; '.join(other[:3])}{more}: "
            "resume with the settings of that run, or choose another folder"
        )
    if old_program == new_program:
        return
    if old_program and new_program and old_program["jax"] == new_program["jax"]:
        raise InputError(
            f"the checkpoint of step {step} is of a network with other code: its settings are the "
            "same, its program is not: restore that code, or choose another folder"
        )
    logger.warning(
        "the checkpoint of step %d was written with JAX %s: whether the network's code has changed "
        "since is not known",
        step,
        old_program["jax"] if old_program else "of an unknown version",
    )


def program_hash(model: nn.Module, recipe: Recipe, data: Dataset) -> str:
    """Return a hash of the programs of `model`: initialization, training and evaluation.

    Functions that were given in Python, the optimizer, the loss and so on, count with their own
    programs. All are traced on two abstract examples with the definitions of all operations, so the
    hash is the same on every platform. Another version of JAX may give another one.
    """
    x = jax.ShapeDtypeStruct((2, *data.input_shape), jnp.float32)
    y = jax.ShapeDtypeStruct((2, *data.target_shape), data.train.y.dtype)
    return _program_hash(model, Recipe() if is_by_name(recipe) else recipe, x, y)


@lru_cache(maxsize=256)
def _program_hash(
    model: nn.Module, recipe: Recipe, x: jax.ShapeDtypeStruct, y: jax.ShapeDtypeStruct
) -> str:
    key, digest = jax.random.key(0), hashlib.sha256()
    with use("reference"):
        init = partial(model.init, **train_argument(model, False))
        _add(digest, jax.make_jaxpr(init)(key, x))
        variables = {"params": {}, **jax.eval_shape(init, key, x)}
        for train in (True, False):
            apply = partial(forward, model, Recipe(), train=train, mutable=["batch_stats"])
            program = jax.make_jaxpr(apply, axis_env=[("data", 1)])(
                variables, x, rngs={"dropout": key}
            )
            _add(digest, program)
        if not is_by_name(recipe):
            outputs = jax.eval_shape(partial(forward, model, Recipe()), variables, x)
            functions = make_loss(recipe), make_metrics(recipe)
            _add(digest, jax.make_jaxpr(partial(measure, *functions))(outputs, y))
            tx, params = make_optimizer(recipe), variables["params"]
            state = jax.eval_shape(tx.init, params)
            update = partial(tx.update, lr=1.0, value=0.0)
            _add(digest, jax.make_jaxpr(update)(params, state, params))
    return digest.hexdigest()[:16]


def _add(digest: Any, program: ClosedJaxpr) -> None:
    digest.update(re.sub("0x[0-9a-f]+", "", str(program)).encode())  # without addresses
    for constant in constants(program):
        digest.update(np.asarray(_raw(constant)).tobytes())


def constants(program: ClosedJaxpr) -> Iterator[ArrayLike]:
    """Yield the arrays that a program contains, with those of the programs that it calls."""
    yield from program.consts
    for eqn in program.jaxpr.eqns:
        for value in jax.tree.leaves(list(eqn.params.values())):
            if isinstance(value, Jaxpr):
                value = ClosedJaxpr(value, ())
            if isinstance(value, ClosedJaxpr):
                yield from constants(value)


def _raw(array: ArrayLike) -> ArrayLike:
    is_key = jnp.issubdtype(jnp.result_type(array), jax.dtypes.prng_key)
    return jax.random.key_data(jnp.asarray(array)) if is_key else array
