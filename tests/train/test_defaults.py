"""Networks as users train them, with the fast implementations, are held to the definitions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import numpy as np
import pytest
from flax import linen as nn

from cnn import models
from cnn.ablations import unshare
from cnn.data import Dataset, Split
from cnn.layers import (
    AdaptiveAvgPool,
    AdaptiveMaxPool,
    Chain,
    Conv,
    Dense,
    Flatten,
    GlobalAvgPool,
    GlobalMaxPool,
    ReLU,
)
from cnn.ops import implementations
from cnn.ops.cpu import one_group
from cnn.train import Config, Result, fit

STEPS, BATCH = 4, 8


class Case(NamedTuple):
    """A network, the shape of its input, and the implementations that its step must call."""

    build: Callable[[], nn.Module]
    shape: tuple[int, ...]
    expected: frozenset[str]


def case(build: Callable[[], nn.Module], shape: tuple[int, ...], *expected: str) -> Case:
    return Case(build, shape, frozenset(expected))


def separable_net() -> Chain:
    """Return two of the six separable convolutions, which compile in less time."""
    first_and_two, head = 3 + 2 * 6, 2
    layers = models.separable_net(width=0.25).layers
    return Chain((*layers[:first_and_two], *layers[-head:]))


def full_window() -> Chain:
    """Return a convolution whose window reaches from every position of 17 to every other."""
    return Chain((Conv(8, (33,), strides=2, padding=16), ReLU(), Flatten(), Dense(10)))


def in_groups() -> Chain:
    """Return a convolution in two groups, each of few channels."""
    return Chain((Conv(8, (3,), groups=2), ReLU(), Flatten(), Dense(10)))


def patches() -> Chain:
    """Return a convolution of windows side by side, as at the bottom of a ViT."""
    return Chain((Conv(8, (4, 4), strides=4), ReLU(), GlobalAvgPool(), Dense(10)))


def large_windows_of_volumes() -> Chain:
    """Return a convolution of volumes, of 216 taps that are not side by side."""
    return Chain((Conv(8, (6, 6, 6), dilation=2), ReLU(), GlobalAvgPool(), Dense(10)))


def large_maps() -> Chain:
    """Return a convolution, at stride 1, of maps whose windows are too many for `im2col`."""
    return Chain((Conv(32, (5, 5), dilation=2), ReLU(), GlobalAvgPool(), Dense(10)))


def pooled_in_bins() -> Chain:
    """Return pooling to sizes that do not divide, and to one position."""
    pools = (AdaptiveMaxPool(9), AdaptiveAvgPool(5), GlobalMaxPool())
    return Chain((Conv(8, (3, 3)), *pools, Dense(10)))


def few_of_many() -> Chain:
    """Return a convolution of many channels to few."""
    return Chain((Conv(2, (5, 5)), ReLU(), Flatten(), Dense(10)))


def name_of(implementation: Any) -> str:
    """Return the name of a function, or of that of a partial."""
    return getattr(implementation, "func", implementation).__name__


CASES = {
    "lenet5": case(models.lenet5, (12, 12, 1), "toeplitz", "whole_map", "max_pool"),
    "local_lenet5": case(
        lambda: unshare(models.lenet5()), (12, 12, 1), "local_toeplitz", "max_pool"
    ),
    "separable_net": case(separable_net, (8, 8, 3), "toeplitz", "depthwise", "im2col"),
    "small_vgg": case(
        partial(models.small_vgg, channels=(24,), hidden=256),
        (16, 16, 3),
        *("toeplitz", "winograd", "max_pool", "matmul"),
    ),
    "cnn1d": case(models.cnn1d, (40, 1), "im2col", "strided"),
    "in_groups": case(in_groups, (16, 4), "grouped", "im2col"),
    "patches": case(patches, (16, 16, 3), "strided", "im2col"),
    "large_windows_of_volumes": case(
        large_windows_of_volumes, (16, 16, 16, 6), "volumes", "im2col"
    ),
    "large_maps": case(  # one map alone, as where weights are initialized, is small enough
        large_maps, (64, 64, 28), "kernel_gradient", "im2col"
    ),
    "pooled_in_bins": case(
        pooled_in_bins, (14, 14, 3), "toeplitz", "im2col", "largest", "mean", "argmax"
    ),
    "few_of_many": case(few_of_many, (12, 12, 64), "kn2row", "toeplitz"),
    "full_window": case(full_window, (17, 1), "whole_map"),
}


def noise(shape: tuple[int, ...]) -> Dataset:
    """Return random inputs with random labels: as many as the steps take, and a few to test."""
    rng = np.random.default_rng(0)

    def split(n: int) -> Split:
        x = rng.standard_normal((n, *shape)).astype(np.float32)
        return Split(x, rng.integers(0, 10, n).astype(np.int32))

    zeros, ones = (0.0,) * shape[-1], (1.0,) * shape[-1]
    return Dataset("noise", split(STEPS * BATCH), split(BATCH), tuple("0123456789"), zeros, ones)


def train(name: str, devices: int) -> Result:
    """Train the network called `name`: SGD, so that rounding moves weights by as little."""
    return fit(
        Config(
            model=CASES[name].build(),
            data=noise(CASES[name].shape),
            steps=STEPS,
            batch_size=BATCH,
            optimizer="sgd",
            lr=1e-2,
            devices=devices,
        )
    )


@pytest.fixture
def called(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Return the names of the fast implementations that are traced from now on."""
    names: set[str] = set()

    def recorded(name: str, implementation: Callable[..., jax.Array]) -> Callable[..., jax.Array]:
        def record(*arguments: Any, **spec: Any) -> jax.Array:
            if implementation is not one_group.convolve:  # one of its ways is named
                names.add(name)
            return implementation(*arguments, **spec)

        return record

    def rows(entries: Sequence[tuple]) -> tuple[tuple, ...]:
        return tuple((recorded(name_of(f), f), applies) for f, applies in entries)

    table = {operation: rows(entries) for operation, entries in implementations.TABLE.items()}
    monkeypatch.setattr(implementations, "TABLE", table)
    ways = {
        name: way._replace(compute=recorded(name, way.compute))
        for name, way in one_group.WAYS.items()
    }
    monkeypatch.setattr(one_group, "WAYS", ways)
    return names


def test_every_fast_implementation_trains() -> None:
    table = implementations.TABLE.values()
    every = {name_of(implementation) for entries in table for implementation, _ in entries}
    every = every - {"convolve"} | one_group.WAYS.keys()
    assert set().union(*(case.expected for case in CASES.values())) == every


ON_FOUR = [pytest.param(name, 4, marks=pytest.mark.slow) for name in CASES if name != "lenet5"]


@pytest.mark.parametrize(
    ("name", "devices"), [*((name, 1) for name in CASES), ("lenet5", 4), *ON_FOUR]
)
def test_training_agrees_with_the_definitions(name: str, devices: int, called: set[str]) -> None:
    """Losses and weights agree to 1e-4 after some steps.

    Both compute in float32, which rounds to 6e-8, but add in another order. Winograd's transforms
    enlarge rounding tenfold, and every step starts from what the last one rounded.
    """
    close = partial(np.testing.assert_allclose, rtol=1e-4, atol=1e-5)
    with implementations.use("reference"):
        expected = train(name, devices=1)
    assert not called
    with implementations.use("fastest"):
        result = train(name, devices)
    assert called == CASES[name].expected
    for field in ("train_loss", "test_loss"):
        close(getattr(result, field), getattr(expected, field))
    (ours,), (theirs,) = result.states, expected.states
    jax.tree.map(close, ours.params, theirs.params)
