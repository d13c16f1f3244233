"""Losses and gradients that are not finite: detect, report or skip them."""

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
    """A loss or gradient is not finite. `report` says where, as JSON."""

    def __init__(self, report: dict[str, Any]) -> None:
        norms = ", ".join(f"{name} {norm}" for name, norm in report["gradient_norms"].items())
        super().__init__(
            f"seed {report['seed']}, lr {report['lr']:g} diverged at step {report['step']}, "
            f"the loss is {report['loss']}: give a smaller lr, or on_nan skip\n"
            f"  gradient norms: {norms}\n"
            f"  training examples: {' '.join(map(str, report['examples']))}"
        )
        self.report = report


def is_finite(metrics: Mapping[str, Any]) -> Bool[Array, "*steps_and_seeds"]:
    """Return where the loss and all gradients are finite, from metrics of steps and seeds."""
    return jnp.isfinite(metrics["loss"]) & jnp.isfinite(metrics["gradient_norms"]).all(-1)


def skip_unless_finite(step: Step) -> Step:
    """Return `step`, except that where loss or gradients are not finite only the counter moves."""

    def guarded(state: TrainState, batch: Batch) -> tuple[TrainState, Metrics]:
        new, metrics = step(state, batch)
        skipped = state.replace(step=new.step)
        finite = is_finite(metrics)
        return jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, skipped), metrics

    return guarded


def divergence_report(
    config: Config, states: States, examples: int, metrics: dict[str, np.ndarray], start: int
) -> dict[str, Any]:
    """Return where the first loss or gradient is not finite, as JSON. It numbers steps from 1.

    `metrics` are those of the steps after step `start`, arrays `(steps, seeds)`. `examples` is the
    size of the training set.
    """
    k, i = np.argwhere(~np.asarray(is_finite(metrics)))[0]
    seed, lr = config.replicas[i]
    paths = [path for path, _ in jax.tree_util.tree_leaves_with_path(states[0].params)]
    names = [jax.tree_util.keystr(path, simple=True, separator="/") for path in paths]
    norms = [f"{norm:.3g}" for norm in metrics["gradient_norms"][k, i]]
    rows = sampler.batch_rows(examples, config.batch_size, seed, int(start + k))
    return {
        "seed": seed,
        "lr": lr,
        "step": int(start + k + 1),
        "loss": f"{metrics['loss'][k, i]:.3g}",
        "gradient_norms": dict(zip(names, norms, strict=True)),
        "examples": rows.tolist(),
    }
