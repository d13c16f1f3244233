"""The state that a training step maps to the next."""

from __future__ import annotations

from typing import Any

import jax
import optax
from flax import linen as nn
from flax import struct
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Key

from cnn.layers.combinators import train_argument

Tree = Any


class TrainState(struct.PyTreeNode):
    """The training state of one seed. `batch_stats` is empty without running statistics."""

    step: Int[Array, ""]
    updates: Int[Array, ""]
    """Steps that were not skipped."""
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    key: Key[Array, ""]
    lr: Float[Array, ""]
    """Factor of the optimizer's updates. It is data, so one program serves all learning rates."""
    average: dict[str, Tree]
    """Moving average of the variables; empty if there is none."""

    @property
    def variables(self) -> dict[str, Tree]:
        """The variables to evaluate with `model.apply`, the moving average if there is one."""
        return self.average or to_variables(self.params, self.batch_stats)


def to_variables(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    """Return the Flax variables, without an empty collection."""
    return {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}


def init_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    seed: int,
    lr: float = 1.0,
    average: bool = False,
) -> TrainState:
    """Return the state before the first step, a pure function of `seed`.

    `input_shape` is `(*spatial, channels)`, without the batch. The keys of initialization and of
    training (dropout) are split from one key. With `average` the state has a moving average.
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    # Flax has no "params" collection for a model without parameters.
    x = jnp.zeros((1, *input_shape))
    variables = {"params": {}, **model.init(init_key, x, **train_argument(model, False))}
    params, batch_stats = variables["params"], variables.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        updates=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=tx.init(params),
        key=key,
        lr=jnp.asarray(lr, jnp.float32),
        average=to_variables(params, batch_stats) if average else {},
    )
