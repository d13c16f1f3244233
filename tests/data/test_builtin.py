"""The built-in sets are the published ones, and are made once."""

from __future__ import annotations

import random

import numpy as np
import pytest

from cnn import data
from cnn.data import Dataset, builtin
from tests.data.numbered import rows


@pytest.fixture(scope="module")
def mnist1d() -> tuple[Dataset, bool]:
    """The set as first made, and whether making it left the global random states alone."""
    before = random.getstate(), np.random.get_state()
    made = data.load("mnist1d")
    after = random.getstate(), np.random.get_state()
    same = before[0] == after[0] and all(
        np.array_equal(a, b) for a, b in zip(before[1], after[1], strict=True)
    )
    return made, same


def test_mnist1d_is_the_published_set(mnist1d: tuple[Dataset, bool]) -> None:
    made, _ = mnist1d
    assert made.train.x.shape == (4000, 40, 1)
    assert made.test.x.shape == (1000, 40, 1)
    assert made.input_shape == (40, 1)
    assert made.num_classes == 10
    labels = np.concatenate([made.train.y, made.test.y])
    np.testing.assert_array_equal(np.bincount(labels), np.full(10, 500))
    x = np.concatenate([made.train.x, made.test.x]).astype(np.float64)
    assert abs(x.mean()) < 1e-6
    assert abs(x.std() - 1) < 1e-6
    # what mnist1d 0.0.2.post1 makes, with NumPy 2 on Python 3.11 and on 3.13
    assert made.train.y[:12].tolist() == [2, 6, 4, 5, 6, 6, 6, 0, 3, 1, 6, 9]
    first = [-0.332006, -0.471910, -0.778697, -1.009741]
    np.testing.assert_allclose(made.train.x[0, :4, 0], first, atol=1e-5)


def test_making_mnist1d_leaves_the_global_random_states_alone(
    mnist1d: tuple[Dataset, bool],
) -> None:
    assert mnist1d[1]


def test_mnist1d_is_made_once(
    mnist1d: tuple[Dataset, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(builtin, "_make_mnist1d", lambda: pytest.fail("made a second time"))
    again = data.load("mnist1d")
    np.testing.assert_array_equal(again.train.x, mnist1d[0].train.x)
    np.testing.assert_array_equal(again.test.y, mnist1d[0].test.y)


@pytest.mark.slow
def test_new_test_signals_are_of_the_same_distribution_and_scale(
    mnist1d: tuple[Dataset, bool], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The generator, run as the package runs it, makes the package's signals, in another order."""
    made, _ = mnist1d
    monkeypatch.setattr(builtin, "FRESH", 500)
    monkeypatch.setattr(builtin, "cached", lambda name, key, make: make())
    fresh = builtin.load_mnist1d_50k()
    x, y = builtin.raw_mnist1d(42, 5000)
    whole = np.concatenate([made.train.x, made.test.x])[..., 0]
    scaled = ((x - x.mean()) / x.std()).astype(np.float32)
    order, other = np.lexsort(scaled.T), np.lexsort(whole.T)
    np.testing.assert_allclose(scaled[order], whole[other], atol=1e-6)
    labels = np.concatenate([made.train.y, made.test.y])
    np.testing.assert_array_equal(y[order], labels[other])
    new, _ = builtin.raw_mnist1d(builtin.FRESH_SEED, 500)
    np.testing.assert_allclose(fresh.test.x[..., 0], (new - x.mean()) / x.std(), atol=1e-5)
    assert fresh.train is made.train or np.array_equal(fresh.train.x, made.train.x)
    assert np.bincount(fresh.test.y).tolist() == [50] * 10
    assert not {row.tobytes() for row in fresh.test.x} & {row.tobytes() for row in made.train.x}


def test_mnist1d_parts_share_no_example(mnist1d: tuple[Dataset, bool]) -> None:
    made, _ = mnist1d
    chosen = made.held_out()
    parts = [rows(chosen.train), rows(chosen.test), rows(made.test)]
    assert [len(part) for part in parts] == [len(chosen.train), len(chosen.test), 1000]
    assert len(set.union(*parts)) == 5000


def test_digits() -> None:
    digits = data.load("digits")
    assert digits.input_shape == (8, 8, 1)
    assert (len(digits.train), len(digits.test)) == (1438, 359)
    # 1,797 images of 178, 182, 177, 183, 181, 182, 181, 179, 174 and 180: a fifth of each, rounded
    assert np.bincount(digits.test.y).tolist() == [36, 36, 35, 37, 36, 36, 36, 36, 35, 36]
    # the first row of the first image, as scikit-learn's documentation prints it
    grey = digits.train.x[0, 0, :, 0] * digits.std[0] + digits.mean[0]
    np.testing.assert_allclose(grey, [0, 0, 5, 13, 9, 1, 0, 0], atol=1e-5)
    assert digits.train.y[0] == 0
    assert abs(digits.train.x.mean(dtype=np.float64)) < 1e-6
    assert abs(digits.train.x.std(dtype=np.float64) - 1) < 1e-6
