"""What trained networks say of test examples, and which they have right."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from etils import epy

with epy.lazy_imports():
    import jax
    import numpy as np

    from cnn.train import metrics, recipe, step

if TYPE_CHECKING:
    from cnn.data import Split
    from cnn.train import Config, Result

SAMPLED = 2000
"""Maximal number of test examples. The variance over examples needs no more."""
BATCH = 500


def sample(split: Split, most: int = SAMPLED) -> Split:
    """Return at most `most` examples of a split, evenly spaced, as sets may be sorted by class."""
    count = min(most, len(split))
    return split.take(np.arange(count) * len(split) // count)


def correct(config: Config, result: Result) -> np.ndarray | None:
    """Return which of the sampled test examples are right, `(seeds, examples)`.

    Returns:
        None if the run does not measure its accuracy on classes.
    """
    named = [metrics.metric_name(metric) for metric in metrics.metrics_of(config)]
    test = config.examples.test
    if "accuracy" not in named or not np.issubdtype(test.y.dtype, np.integer) or not len(test):
        return None
    return right(config, result, sample(test))


def right(config: Config, result: Result, split: Split) -> np.ndarray:
    """Return which examples of `split` the trained networks have right, `(seeds, examples)`."""
    return logits(config, result, split).argmax(-1) == split.y


def logits(config: Config, result: Result, split: Split) -> np.ndarray:
    """Return the outputs of the trained networks, `(seeds, examples, outputs)`."""
    model, precision = config.phases[-1][0], recipe.Recipe(precision=config.precision)
    forward = jax.jit(step.forward, static_argnums=(0, 1))
    rows = np.array_split(np.arange(len(split)), math.ceil(len(split) / BATCH))
    inputs = [np.asarray(split.x[part]) for part in rows]
    outputs = [
        np.concatenate([np.asarray(forward(model, precision, state.variables, x)) for x in inputs])
        for state in result.states
    ]
    return np.stack(outputs)
