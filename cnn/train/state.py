"""The state that one training step maps to the next."""

from __future__ import annotations

from typing import Any

import jax
import optax
from flax import linen as nn
from flax import struct
from jax import numpy as jnp
from jaxtyping import Array, Int, Key

Tree = Any


class TrainState(struct.PyTreeNode):
    """One seed's training. `batch_stats` is empty for a model without running statistics."""

    step: Int[Array, ""]
    params: Tree
    batch_stats: Tree
    opt_state: optax.OptState
    key: Key[Array, ""]

    @property
    def variables(self) -> dict[str, Tree]:
        """What `model.apply` takes."""
        return variables(self.params, self.batch_stats)


def variables(params: Tree, batch_stats: Tree) -> dict[str, Tree]:
    """Return the Flax variables, leaving out an empty collection."""
    return {"params": params, "batch_stats": batch_stats} if batch_stats else {"params": params}


def init_state(
    model: nn.Module, tx: optax.GradientTransformation, input_shape: tuple[int, ...], seed: int
) -> TrainState:
    """Return the state before the first step; a pure function of `seed`.

    `input_shape` is `(*spatial, channels)`, without the batch. The key of weights and the key of
    training (dropout) are split from one.
    """
    init_key, key = jax.random.split(jax.random.key(seed))
    # Flax keeps no "params" collection for a model without any.
    made = {"params": {}, **model.init(init_key, jnp.zeros((1, *input_shape)))}
    return TrainState(
        step=jnp.zeros((), jnp.int32),
        params=made["params"],
        batch_stats=made.get("batch_stats", {}),
        opt_state=tx.init(made["params"]),
        key=key,
    )
