"""Made-up results, so that the probes and summary of a study are tested without training."""

from __future__ import annotations

from collections.abc import Iterable
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cnn.train import Config
from experiments.harness import drawing
from experiments.harness.study import Name, Outcome, Summary


def untrained(config: Config, seeds: int = 1) -> Any:
    """Return what `measure` reads of a `Result`, with initial weights."""
    x = jnp.zeros((1, *config.data.input_shape))
    init = jax.jit(config.model.init)
    weights = [init(jax.random.key(seed), x) for seed in range(seeds)]
    return SimpleNamespace(states=[SimpleNamespace(variables=w) for w in weights])


def outcomes(names: Iterable[Name], *more: str) -> dict[Name, Outcome]:
    """Return of the i-th name two seeds with values i / 100 and (i + 2) / 100, of all there is."""
    values = ("test_accuracy", "train_accuracy", *more)
    return {
        name: Outcome(1, dict.fromkeys(values, np.array([i, i + 2]) / 100))
        for i, name in enumerate(names)
    }


def check_figures(summary: Summary) -> None:
    """Draw every figure; each must show something."""
    assert summary.figures
    for figure in summary.figures.values():
        drawn, marks = drawing.draw(figure)
        assert marks or any(axes.images for axes in drawn.axes)
