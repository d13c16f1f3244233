"""Permutations and subsets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cnn import data
from cnn.data import Dataset, Split
from cnn.errors import InputError
from tests.data.numbered import numbered, rows


def test_permute_moves_positions_and_keeps_channels_together() -> None:
    x = np.arange(12, dtype=np.float32).reshape(1, 2, 3, 2)  # positions 0..5 hold (2p, 2p + 1)
    split = Split(x, np.zeros(1, np.int32))
    moved = data.permute(
        Dataset("six", split, split, ("a",), (0.0,), (1.0,)), np.array([5, 0, 1, 2, 3, 4])
    )
    expected = [[[[10, 11], [0, 1], [2, 3]], [[4, 5], [6, 7], [8, 9]]]]
    np.testing.assert_array_equal(moved.train.x, expected)
    np.testing.assert_array_equal(moved.test.x, expected)


@given(st.integers(0, 2**32 - 1), st.integers(1, 50))
def test_permute_is_undone_by_the_inverse_permutation(seed: int, positions: int) -> None:
    whole = numbered([0, 1, 0], spatial=positions)
    order = data.permutation(positions, seed)
    back = data.permute(data.permute(whole, order), np.argsort(order))
    np.testing.assert_array_equal(back.train.x, whole.train.x)
    np.testing.assert_array_equal(back.test.x, whole.test.x)
    np.testing.assert_array_equal(back.train.y, whole.train.y)


def test_permutation_is_decided_by_the_seed() -> None:
    order = data.permutation(40, seed=0)
    assert sorted(order) == list(range(40))
    np.testing.assert_array_equal(order, data.permutation(40, seed=0))
    assert (order != data.permutation(40, seed=1)).any()
    assert (order != np.arange(40)).any()


@pytest.mark.parametrize("order", [[0, 1], [0, 1, 1], [1, 2, 3], [[0, 1, 2]]])
def test_permute_refuses_what_is_no_permutation(order: list[int]) -> None:
    with pytest.raises(InputError, match=r"permutation\(3, seed\)"):
        data.permute(numbered([0, 1], spatial=3), np.array(order))


def test_subset_is_balanced_and_nested() -> None:
    whole = numbered([0] * 50 + [1] * 30 + [2] * 3)
    small, large = data.subset(whole, 6, seed=0), data.subset(whole, 23, seed=0)
    assert np.bincount(small.train.y).tolist() == [2, 2, 2]
    assert np.bincount(large.train.y).tolist() == [10, 10, 3]  # class 2 has no more
    assert rows(small.train) < rows(large.train) < rows(whole.train)
    assert rows(data.subset(whole, 6, seed=1).train) != rows(small.train)
    np.testing.assert_array_equal(large.test.x, whole.test.x)
    everything = data.subset(whole, 83, seed=0)
    np.testing.assert_array_equal(everything.train.x, whole.train.x)


@pytest.mark.parametrize("n", [0, -1, 4])
def test_subset_refuses_sizes_that_are_not_there(n: int) -> None:
    with pytest.raises(InputError, match="n must be from 1 to the 3 training examples"):
        data.subset(numbered([0, 1, 1]), n, seed=0)


def test_blocks_move_as_a_whole() -> None:
    """Every block of the permuted map is a block of the map: its rows are runs of neighbours."""
    order = data.permutation((4, 6), seed=3, block=2).reshape(4, 6)
    assert sorted(order.ravel()) == list(range(24))
    corners = {0, 2, 4, 12, 14, 16}  # of the blocks of a map 4 × 6, in row-major order
    found = set()
    for i, j in np.ndindex(2, 3):
        block = order[2 * i : 2 * i + 2, 2 * j : 2 * j + 2]
        np.testing.assert_array_equal(block, block[0, 0] + np.array([[0, 1], [6, 7]]))
        found.add(int(block[0, 0]))
    assert found == corners
    np.testing.assert_array_equal(data.permutation((3, 3), seed=0, block=3), range(9))
    np.testing.assert_array_equal(data.permutation(12, seed=5), data.permutation((3, 4), seed=5))
    assert not np.array_equal(data.permutation(40, 0, 4), data.permutation(40, 1, 4))
    for block in (0, 4):
        with pytest.raises(InputError, match=f"block must divide the size .4, 6., got {block}"):
            data.permutation((4, 6), seed=0, block=block)


def test_float_targets_are_drawn_and_permuted_inputs_keep_them() -> None:
    y = np.arange(20, dtype=np.float32).reshape(10, 2)
    split = Split(np.arange(30, dtype=np.float32).reshape(10, 3, 1), y)
    whole = Dataset("vectors", split, split, (), (0.0,), (1.0,))
    small, large = data.subset(whole, 3, seed=0), data.subset(whole, 7, seed=0)
    assert small.train.y.shape == (3, 2)
    assert rows(small.train) < rows(large.train) < rows(whole.train)
    np.testing.assert_array_equal(large.train.y[:, 0] / 2, large.train.x[:, 0, 0] / 3)
    moved = data.permute(whole, np.array([2, 0, 1]))
    np.testing.assert_array_equal(moved.train.y, y)
    maps = Split(split.x, np.zeros((10, 3, 1), np.float32))
    with pytest.raises(InputError, match=r"got maps \(3, 1\) in data set 'maps'"):
        data.permute(Dataset("maps", maps, maps, (), (0.0,), (1.0,)), np.array([2, 0, 1]))
