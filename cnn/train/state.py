"""The state that one training step maps to the next."""

from __future__ import annotations

from typing import Any

import jax
import optax
from flax import linen as nn
from flax import struct
from jax import numpy as jnp
from jaxtyping import Array, Float, Int, Key

Tree = Any


class TrainState(struct.PyTreeNode):
    """One seed's training. `batch_stats` is empty for a model without running statistics."""

    step: Int[Array, ""]
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    key: Key[Array, ""]
    lr: Float[Array, ""]
    """What the optimizer's updates are multiplied by: not compiled in, it differs over a sweep."""
    average: dict[str, Tree]
    """The moving average of the variables; empty where none is kept."""

    @property
    def variables(self) -> dict[str, Tree]:
        """What `model.apply` takes to be evaluated: the average, where one is kept."""
        return self.average or variables(self.params, self.batch_stats)


def variables(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    """Return the Flax variables, leaving out an empty collection."""
    return {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}


def init_state(
    model: nn.Module,
    tx: optax.GradientTransformation,
    input_shape: tuple[int, ...],
    seed: int,
    lr: float = 1.0,
    average: bool = False,
) -> TrainState:
    """Return the state before the first step; a pure function of `seed`.

    `input_shape` is `(*spatial, channels)`, without the batch; `average` says whether a moving
    average is kept. The key of weights and the key of training (dropout) are split from one.
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    # Flax keeps no "params" collection for a model without any.
    made = {"params": {}, **model.init(init_key, jnp.zeros((1, *input_shape)))}
    params, batch_stats = made["params"], made.get("batch_stats", {})
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=params,
        batch_stats=batch_stats,
        opt_state=tx.init(params),
        key=key,
        lr=jnp.asarray(lr, jnp.float32),
        average=variables(params, batch_stats) if average else {},
    )
