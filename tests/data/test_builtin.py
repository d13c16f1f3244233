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
