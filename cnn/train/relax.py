"""Relaxing a constraint in the middle of training: lift the weights, and the optimizer with them.

d'Ascoli et al. (2019), "Finding the needle in the haystack with convolutions", train a
convolutional network for some steps, write it as a fully connected one that computes the same, and
go on training that.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnn.ablations import lift
from cnn.train.state import TrainState, Tree


def relax(
    state: TrainState, source: nn.Module, target: nn.Module, input_shape: tuple[int, ...]
) -> TrainState:
    """Return the training of `source` as one of `target`, which has less bias; function unchanged.

    Weights go up by w ↦ L w (`cnn.ablations.lift`). Gradients with respect to them are related by
    g_source = Lᵀ g_target, so first moments go up by L (LᵀL)⁻¹, which shares a gradient out evenly
    among the n copies of a weight, and so do second moments: the n gradients of the copies count as
    independent, of which the squares add up. New weights, which were zero by constraint, get the
    largest second moment of their kernel: from zero, or from the mean, Adam's first steps would be
    too long (in `experiments.relax`, freed to dense in the middle of training, 71 ± 9 % in place
    of 86 ± 1 from the mean, 3 seeds).
    Raises `LayerError` as `lift` does.
    """

    def up(params: Tree) -> Tree:
        return lift({"params": params}, source, target, input_shape)["params"]

    params, down = jax.vjp(up, state.params)
    ones = jax.tree.map(jnp.ones_like, params)
    (copies,) = down(ones)
    there = up(jax.tree.map(jnp.ones_like, state.params))

    def first(moment: Tree) -> Tree:
        return up(jax.tree.map(lambda m, n: m / jnp.maximum(n, 1), moment, copies))

    def second(moment: Tree) -> Tree:
        return jax.tree.map(lambda m, t: jnp.where(t > 0, m, m.max()), first(moment), there)

    structure: Any = jax.tree.structure(state.params)

    def of_params(node: Any) -> dict[str, Tree]:
        fields = node._asdict() if hasattr(node, "_asdict") else {}
        return {k: v for k, v in fields.items() if jax.tree.structure(v) == structure}

    def moments(node: Any) -> Any:
        lifted = {k: second(v) if k == "nu" else first(v) for k, v in of_params(node).items()}
        return node._replace(**lifted) if lifted else node

    # Optax keeps moments as named tuples of trees like the parameters, second ones as "nu".
    opt_state = jax.tree.map(moments, state.opt_state, is_leaf=lambda n: bool(of_params(n)))
    average = {**state.average, "params": up(state.average["params"])} if state.average else {}
    return state.replace(params=params, opt_state=opt_state, average=average)
