"""New signals of MNIST-1D in any number, many at a time.

The package `mnist1d` makes one signal after another. Here the same arithmetic is done on arrays,
for a block of signals at once.
"""

from __future__ import annotations

from importlib.metadata import version
from typing import NamedTuple

import numpy as np
from etils import epy
from jaxtyping import Float, Int

from cnn.data.builtin import raw_mnist1d
from cnn.data.cache import cached
from cnn.data.split import Split
from cnn.errors import InputError

with epy.lazy_imports():  # slow to import
    from mnist1d import data as package
    from mnist1d import transform
    from scipy import ndimage

CLASSES = 10
LENGTH = 72
"""Samples of a signal until its last step, which leaves 40."""
BLOCK = 10_000
"""Signals that are made at a time; ten of their arrays are in memory, 6 MB each."""


class Draws(NamedTuple):
    """What is random in `n` signals."""

    zeros: Float[np.ndarray, " n"]
    """Uniform from 0 to 1: how many zeros follow the template."""
    scale: Float[np.ndarray, " n"]
    """Uniform from 0 to 1."""
    shift: Int[np.ndarray, " n"]
    """From 0 to 47 samples to the right, around the end."""
    smooth: Float[np.ndarray, "n samples"]
    """Standard normal, for the noise that is smoothed and takes the place of zeros."""
    white: Float[np.ndarray, "n samples"]
    """Standard normal, for the noise that is added everywhere."""
    shear: Float[np.ndarray, " n"]
    """Uniform from 0 to 1."""


def mnist1d_signals(count: int, seed: int) -> Split:
    """Return new signals of MNIST-1D, as many of each class, in the order of the classes.

    They have the distribution of the set `mnist1d`, and are standardized by the mean and deviation
    of its 5,000 signals, so they can be trained on and tested beside them.

    Args:
        count: Number of signals. Where 10 does not divide it, some classes have one more.
        seed: Another seed gives other signals. They are not those of the package for this seed.

    Raises:
        InputError: If there are no signals, or the seed is negative.
    """
    if count < 1:
        raise InputError(f"count must be a number of signals from 1 on, got {count}")
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    rng, y = np.random.default_rng(seed), np.arange(count, dtype=np.int64) * CLASSES // count
    blocks = (y[i : i + BLOCK] for i in range(0, count, BLOCK))
    x = np.concatenate([transformed(labels, draw(rng, len(labels))) for labels in blocks])
    mean, std = _scaling()
    return Split(((x - mean) / std)[..., np.newaxis].astype(np.float32), y.astype(np.int32))


def draw(rng: np.random.Generator, count: int) -> Draws:
    """Return what is random in `count` signals."""
    zeros, scale, shear = rng.random((3, count))
    shift = rng.integers(package.get_dataset_args().max_translation, size=count)
    smooth, white = rng.standard_normal((2, count, LENGTH))
    return Draws(zeros, scale, shift, smooth, white, shear)


def transformed(labels: Int[np.ndarray, " n"], draws: Draws) -> Float[np.ndarray, "n samples"]:
    """Return signals before they are standardized, as `mnist1d.transform.transform` makes them."""
    arguments = package.get_dataset_args()
    fewest, most = arguments.padding
    zeros = (draws.zeros * (most - fewest + 1)).astype(int)
    x = _padded_templates(fewest, most)[labels, zeros]
    x = x * (1 + arguments.scale_coeff * (draws.scale - 0.5))[:, np.newaxis]
    sources = (np.arange(LENGTH) - draws.shift[:, np.newaxis]) % LENGTH
    x = np.take_along_axis(x, sources, axis=1)
    smooth = ndimage.gaussian_filter1d(arguments.corr_noise_scale * draws.smooth, 2, axis=1)
    x = np.where(x != 0, x, smooth) + arguments.iid_noise_scale * draws.white
    slopes = arguments.shear_scale * (draws.shear - 0.5)
    x = x - slopes[:, np.newaxis] * np.linspace(-0.5, 0.5, LENGTH)
    return np.asarray(transform.interpolate(x.T, arguments.final_seq_length).T)


def _padded_templates(fewest: int, most: int) -> Float[np.ndarray, "classes zeros samples"]:
    """Return every template with every number of zeros behind it, stretched to one length.

    The package makes them, so that zeros are exact: they tell where noise is put.
    """
    templates = package.get_templates()["x"] + 1e-8
    return np.array(
        [
            [
                transform.interpolate(np.append(template, np.zeros(zeros)), LENGTH)
                for zeros in range(fewest, most + 1)
            ]
            for template in templates
        ]
    )


def _scaling() -> tuple[float, float]:
    """Return the mean and the deviation of the package's signals before it standardizes them."""

    def measured() -> dict[str, np.ndarray]:
        x, _ = raw_mnist1d(42, 5000)
        return {"scaling": np.array([x.mean(), x.std()])}

    mean, std = cached("mnist1d-scaling", f"mnist1d {version('mnist1d')}", measured)["scaling"]
    return float(mean), float(std)
