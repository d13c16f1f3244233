"""Losses, gradients and updates that are not finite: detect, report or skip them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool

from cnn.errors import RunError
from cnn.train import sampler
from cnn.train.config import Config
from cnn.train.ensemble import States, Step
from cnn.train.state import TrainState
from cnn.train.step import Batch, Metrics


class Diverged(RunError):
    """A loss, gradient or update is not finite. `report` says where, as JSON."""

    def __init__(self, report: dict[str, Any]) -> None:
        norms = ", ".join(f"{name} {norm}" for name, norm in report["gradient_norms"].items())
        super().__init__(
            f"seed {report['seed']}, lr {report['lr']:g} diverged at step {report['step']}, "
            f"{report['reason']}: give a smaller lr, or on_nan skip\n"
            f"  gradient norms: {norms}\n"
            f"  training examples: {' '.join(map(str, report['examples']))}"
        )
        self.report = report


def is_finite(metrics: Mapping[str, Any]) -> Bool[Array, "*steps_and_seeds"]:
    """Return where the loss and all gradients are finite, from metrics of steps and seeds."""
    return jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norms"]).all(-1)


def are_finite(states: States) -> Bool[np.ndarray, " seeds"]:
    """Return which states are finite, everything in them counted."""
    return np.array([_is_finite_tree(state.replace(key=None)) for state in states])


@jax.jit  # of arrays that are spread over processes, none can fetch the whole
def _is_finite_tree(tree: Any) -> Bool[Array, ""]:
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(tree)]).all()


def skip_unless_finite(step: Step) -> Step:
    """Return `step`, except that only the counter moves where something is not finite.

    That is the loss, a gradient, or what the update makes of the variables. The metrics say where
    a step was skipped.
    """

    def guarded(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        new, metrics = step(state, batch)
        variables = jax.tree.leaves((new.params, new.batch_stats))
        finite = jnp.stack([is_finite(metrics), *(jnp.isfinite(v).all() for v in variables)]).all()
        kept = state.replace(step=new.step)
        next_state = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, kept)
        return next_state, {**metrics, "skipped": ~finite}

    return guarded


def divergence_report(
    config: Config,
    states: States,
    examples: int,
    metrics: dict[str, np.ndarray],
    finite: Bool[np.ndarray, "steps seeds"],
    start: int,
) -> dict[str, Any]:
    """Return where the first step is not finite, as JSON. It numbers steps from 1.

    `metrics` are those of the steps after step `start`, arrays `(steps, seeds)`, and `finite` says
    which steps were. `examples` is the size of the training set.
    """
    k, i = np.argwhere(~finite)[0]
    seed, lr = config.replicas[i]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(states[0].params)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    loss, norms = f"{metrics['loss'][k, i]:.3g}", metrics["gradient_norms"][k, i]
    reason = f"the loss is {loss}"
    if np.isfinite(metrics["loss"][k, i]):
        what = "update" if np.isfinite(norms).all() else "gradient"
        reason += f", but the {what} is not finite"
    rows = sampler.batch_rows(examples, config.batch_size, seed, int(start + k))
    return {
        "seed": seed,
        "lr": lr,
        "step": int(start + k + 1),
        "loss": loss,
        "reason": reason,
        "gradient_norms": {name: f"{n:.3g}" for name, n in zip(names, norms, strict=True)},
        "examples": rows.tolist(),
    }
