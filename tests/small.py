"""A model and data so small that tests spend their time compiling."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import jax
import numpy as np

from cnn.data import Dataset, Split
from cnn.layers import BatchNorm, Chain, Conv, Dense, GlobalMaxPool, ReLU
from cnn.train import Config


def waves(count: int = 64, length: int = 12, seed: int = 0) -> Dataset:
    """Return noise with a bump up or a bump down: two classes for a small convolution."""
    rng = np.random.default_rng(seed)

    def split(n: int) -> Split:
        y = rng.integers(0, 2, n).astype(np.int32)
        x = 0.3 * rng.standard_normal((n, length, 1))
        at = rng.integers(1, length - 1, n)
        x[np.arange(n), at, 0] += np.where(y == 1, 2.0, -2.0)
        return Split(x.astype(np.float32), y)

    return Dataset("waves", split(count), split(24), ("down", "up"), mean=(0.0,), std=(1.0,))


def model(norm: bool = False, features: int = 4) -> Chain:
    """Return a convolution and a linear head, with batch normalization between them if `norm`.

    With normalization the convolution has no bias. The gradient of a bias would be rounding errors,
    which Adam scales to full steps, so runs could not be compared.
    """
    extra = (BatchNorm(),) if norm else ()
    return Chain(
        (
            Conv(features, (3,), use_bias=not norm),
            *extra,
            ReLU(),
            GlobalMaxPool(),
            Dense(2, scale=1.0),
        )
    )


def config(out: Path | None = None, **fields: Any) -> Config:
    """Return a run of 20 steps on one device, changed by `fields`."""
    defaults: dict[str, Any] = {"steps": 20, "batch_size": 16, "lr": 1e-2, "devices": 1}
    defaults |= {"model": model(), "data": waves()}
    return Config(out=out, **(defaults | fields))


def assert_same(a: Any, b: Any) -> None:
    """Assert that two trees are equal bit for bit."""
    jax.tree.map(np.testing.assert_array_equal, jax.device_get(a), jax.device_get(b))


def assert_close(a: Any, b: Any, tolerance: float) -> None:
    """Assert that two trees are equal to an absolute tolerance."""

    def close(p: np.ndarray, q: np.ndarray) -> None:
        np.testing.assert_allclose(p, q, atol=tolerance, rtol=0)

    jax.tree.map(close, jax.device_get(a), jax.device_get(b))
