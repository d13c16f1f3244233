"""Losses and gradients that are not finite: found, named, and left out where that was asked for."""

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
    """A loss or a gradient was not finite; `report` is JSON that says where."""

    def __init__(self, report: dict[str, Any]) -> None:
        norms = ", ".join(f"{name} {norm}" for name, norm in report["gradient_norms"].items())
        super().__init__(
            f"seed {report['seed']}, lr {report['lr']:g} diverged at step {report['step']}, "
            f"the loss is {report['loss']}: give a smaller lr, or on_nan skip\n"
            f"  gradient norms: {norms}\n"
            f"  training examples: {' '.join(map(str, report['examples']))}"
        )
        self.report = report


def finite(metrics: Mapping[str, Any]) -> Bool[Array, "*steps_and_seeds"]:
    """Say where the loss and all gradients are finite, from the metrics of steps and seeds."""
    return jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norms"]).all(-1)


def skip_unless_finite(step: Step) -> Step:
    """Return `step`, but where loss or gradients are not finite only the step counter moves."""

    def guarded(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        successor, metrics = step(state, batch)
        stay = state.replace(step=successor.step)
        good = finite(metrics)
        return jax.tree.map(lambda new, old: jnp.where(good, new, old), successor, stay), metrics

    return guarded


def report(
    config: Config, states: States, examples: int, metrics: dict[str, np.ndarray], start: int
) -> dict[str, Any]:
    """Return where the first loss or gradient was not finite, as JSON.

    `metrics` are of the steps from `start` on, `(steps, seeds)`; steps count from 1. `examples` is
    how many there are in the training set; those of the batch are given by number.
    """
    k, i = np.argwhere(~np.asarray(finite(metrics)))[0]
    seed, lr = config.members[i]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(states[0].params)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    norms = [f"{norm:.3g}" for norm in metrics["gradient_norms"][k, i]]
    return {
        "seed": seed,
        "lr": lr,
        "step": int(start + k + 1),
        "loss": f"{metrics['loss'][k, i]:.3g}",
        "gradient_norms": dict(zip(names, norms, strict=True)),
        "examples": sampler.rows(examples, config.batch_size, seed, int(start + k)).tolist(),
    }
