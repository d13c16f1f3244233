"""New signals of MNIST-1D are what the package's generator makes."""

from __future__ import annotations

import numpy as np
import pytest

from cnn.data import mnist1d_signals, signals
from cnn.data.builtin import raw_mnist1d
from cnn.data.signals import Draws
from cnn.errors import InputError


def drawn_by_the_package(seed: int, count: int) -> Draws:
    """Return the random numbers of the package's signals, drawn one by one in its order."""
    rng = np.random.RandomState(seed)
    found = [
        (rng.rand(), rng.rand(), rng.choice(48), rng.randn(72), rng.randn(72), rng.rand())
        for _ in range(count)
    ]
    return Draws(*map(np.array, zip(*found, strict=True)))


def test_the_same_random_numbers_give_the_signals_of_the_package() -> None:
    x, y = raw_mnist1d(7, 500)
    np.testing.assert_allclose(
        signals.transformed(y, drawn_by_the_package(7, 500)), x, rtol=0, atol=1e-12
    )


def test_random_numbers_have_the_distributions_of_the_package() -> None:
    """Uniform from 0 to 1 (mean 1/2, variance 1/12), 0 to 47, and standard normal."""
    draws = signals.draw(np.random.default_rng(0), 40_000)
    for name in ("zeros", "scale", "shear"):
        uniform = getattr(draws, name)
        assert uniform.min() >= 0 and uniform.max() < 1
        np.testing.assert_allclose([uniform.mean(), 12 * uniform.var()], [0.5, 1], atol=0.02)
    counts = np.bincount(draws.shift)
    assert len(counts) == 48 and counts.min() > 600  # of 833, whose deviation is 29
    for normal in (draws.smooth, draws.white):
        np.testing.assert_allclose([normal.mean(), normal.std()], [0, 1], atol=0.01)
    independent = np.corrcoef([*draws[:3], draws.smooth[:, 0], draws.white[:, 0], draws.shear])
    np.testing.assert_allclose(independent, np.eye(6), atol=0.03)


def test_signals_are_balanced_standardized_and_of_their_seed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The package's 5,000 signals have mean 0 and deviation 1; as many others nearly have."""
    monkeypatch.setattr(signals, "BLOCK", 1500)  # it does not divide the number of signals
    made = mnist1d_signals(5000, 1)
    assert made.x.shape == (5000, 40, 1)
    np.testing.assert_array_equal(made.y, np.repeat(np.arange(10), 500))
    x = np.asarray(made.x)
    np.testing.assert_allclose([x.mean(), x.std()], [0, 1], atol=0.02)
    np.testing.assert_array_equal(x, mnist1d_signals(5000, 1).x)
    rows = {one.tobytes() for one in x}
    assert len(rows) == 5000
    assert not rows & {one.tobytes() for one in np.asarray(mnist1d_signals(5000, 2).x)}
    assert np.bincount(mnist1d_signals(23, 1).y).tolist() == [3, 2, 2, 3, 2, 2, 3, 2, 2, 2]


@pytest.mark.parametrize(
    ("count", "seed", "message"),
    [
        (0, 0, "count must be a number of signals from 1 on, got 0"),
        (10, -1, "seed must not be negative, got -1"),
    ],
)
def test_what_cannot_be_is_one_line(count: int, seed: int, message: str) -> None:
    with pytest.raises(InputError, match=f"^{message}$"):
        mnist1d_signals(count, seed)
