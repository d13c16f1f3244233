"""Relax a constraint during training: lift the weights and the optimizer state to less bias.

Reference:
    d'Ascoli et al., "Finding the Needle in the Haystack with Convolutions" (2019), train a
    convolutional network for some steps, rewrite it as a fully connected network that computes the
    same function, and continue to train that.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from cnn.ablations import lift
from cnn.errors import InputError
from cnn.train.recipe import Recipe, plain
from cnn.train.state import TrainState, Tree, to_variables

FIRST_MOMENTS = {"mu", "trace"}
SECOND_MOMENTS = {"nu", "sum_of_squares"}
"""Optax's names for moments of the gradient."""


def relax(
    state: TrainState, source: nn.Module, target: nn.Module, input_shape: tuple[int, ...]
) -> TrainState:
    """Return the training state of `source` as one of `target`, which has less bias.

    The network's function does not change. Weights are lifted by w ↦ L w (`cnn.ablations.lift`).
    Gradients are related by g_source = Lᵀ g_target. So first moments are lifted by L (LᵀL)⁻¹, which
    divides a gradient evenly among the n copies of a weight. Second moments are lifted in the same
    way: the gradients of the n copies count as independent, and their squares add up.

    New weights, which the constraint kept at zero, get the largest second moment of their kernel.
    With zero or the mean, Adam's first steps would be too long: in `experiments.relax`, freed to
    dense during training, the mean gives 71 ± 9 % and the maximum 86 ± 1 % (3 seeds).

    Raises:
        LayerError: As `lift` does.
    """

    def lift_tree(params: Tree) -> Tree:
        return lift({"params": params}, source, target, input_shape)["params"]

    params, transpose = jax.vjp(lift_tree, state.params)
    structure: Any = jax.tree.structure(state.params)
    if structure != jax.tree.structure(params):
        raise InputError(
            "relax_to must have the weights of the model, but attention has more: lift the trained "
            "weights, and begin a run with them"
        )
    (copies,) = transpose(jax.tree.map(jnp.ones_like, params))
    old = lift_tree(jax.tree.map(jnp.ones_like, state.params))  # 0 for new weights

    def first(moment: Tree) -> Tree:
        return lift_tree(jax.tree.map(lambda m, n: m / jnp.maximum(n, 1), moment, copies))

    def second(moment: Tree) -> Tree:
        return jax.tree.map(lambda m, o: jnp.where(o > 0, m, m.max()), first(moment), old)

    def lift_moment(kind: str, moment: Tree) -> Tree:
        return second(moment) if kind in SECOND_MOMENTS else first(moment)

    opt_state = map_moments(lift_moment, state.opt_state, state.params)
    lifted = lift(to_variables(state.params, state.batch_stats), source, target, input_shape)
    average = lift(state.average, source, target, input_shape) if state.average else {}
    statistics = lifted.get("batch_stats", {})
    return state.replace(
        params=params, batch_stats=statistics, opt_state=opt_state, average=average
    )


def map_moments(f: Callable[[str, Tree], Tree], opt_state: Tree, params: Tree) -> Tree:
    """Return an optimizer's state with `f(name, moment)` for every moment in it.

    Optax keeps moments as fields of named tuples, trees like the parameters.
    """
    structure: Any = jax.tree.structure(params)

    def moments(node: Any) -> dict[str, Tree]:
        fields = node._asdict() if hasattr(node, "_asdict") else {}
        return {k: v for k, v in fields.items() if jax.tree.structure(v) == structure}

    def mapped(node: Any) -> Any:
        changed = {name: f(name, moment) for name, moment in moments(node).items()}
        return node._replace(**changed) if changed else node

    return jax.tree.map(mapped, opt_state, is_leaf=lambda node: bool(moments(node)))


def check_liftable(recipe: Recipe, state: TrainState) -> None:
    """Raise `InputError` if the optimizer keeps something that cannot be lifted. Any state will do.

    What an unknown moment means is not known, and neither how it changes with the number of copies.
    """
    unknown: list[str] = []

    def without(name: str, moment: Tree) -> tuple[()]:
        unknown.extend([] if name in FIRST_MOMENTS | SECOND_MOMENTS else [name])
        return ()

    rest = jax.tree.leaves(map_moments(without, state.opt_state, state.params))
    if unknown or any(leaf.ndim for leaf in rest):
        what = f"the state {unknown[0]!r}" if unknown else "a state of another shape"
        raise InputError(
            f"relax_at cannot lift {what} of optimizer {plain(recipe.optimizer)}: choose one with "
            "moments as those of adamw or sgd"
        )
