"""The data order: a function of (seed, step), every example once per epoch."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from cnn.train.sampler import batch_rows, chunk_rows, epoch_order, evaluation_batches


@given(count=st.integers(1, 50), batch=st.integers(1, 10), seed=st.integers(0, 5))
def test_an_epoch_reads_no_example_twice(count: int, batch: int, seed: int) -> None:
    batch = min(batch, count)
    per_epoch = count // batch
    for epoch in range(3):
        steps = range(epoch * per_epoch, (epoch + 1) * per_epoch)
        read = np.concatenate([batch_rows(count, batch, seed, step) for step in steps])
        assert len(read) == per_epoch * batch
        assert len(set(read.tolist())) == len(read)
        assert set(read.tolist()) <= set(range(count))


def test_order_depends_on_seed_and_epoch() -> None:
    assert sorted(epoch_order(100, 0, 0)) == list(range(100))
    assert not np.array_equal(epoch_order(100, 0, 0), epoch_order(100, 1, 0))
    assert not np.array_equal(epoch_order(100, 0, 0), epoch_order(100, 0, 1))


def test_chunk_rows_lay_steps_side_by_side() -> None:
    chunk = chunk_rows(20, 4, (3, 8), start=2, steps=6)
    assert chunk.shape == (4, 6, 2)
    for k in range(6):
        for i, seed in enumerate((3, 8)):
            np.testing.assert_array_equal(chunk[:, k, i], batch_rows(20, 4, seed, 2 + k))


def test_in_order_weighs_every_example_once() -> None:
    batches = list(evaluation_batches(10, 4))
    assert [len(r) for r, _ in batches] == [4, 4, 4]
    counted = np.zeros(10)
    for picked, weights in batches:
        np.add.at(counted, picked, weights)
    np.testing.assert_array_equal(counted, np.ones(10))
